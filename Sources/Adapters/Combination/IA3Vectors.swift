import OrderedCollections
import Torch

/// An (IA)³ adapter as what it is made of: its settings and, by the path of the module, its vector.
struct IA3Vectors {
  var configuration: IA3Config
  var vectors: OrderedDictionary<String, Tensor>  // [1, in] or [out, 1]
  /// Modules trained in full and tables stored beside the adapter, under their complete names.
  var others: [(name: String, tensor: Tensor)]

  private static let suffix = ".ia3_l"

  /// - Parameter tensors: under the complete names of the adapter's file.
  init(_ configuration: IA3Config, _ tensors: [(name: String, tensor: Tensor)]) throws {
    self.configuration = configuration
    vectors = [:]
    others = []
    for (stored, tensor) in tensors {
      guard stored.hasPrefix(AdapterTensor.prefix), stored.hasSuffix(Self.suffix) else {
        others.append((stored, tensor))
        continue
      }
      let path = stored.dropFirst(AdapterTensor.prefix.count).dropLast(Self.suffix.count)
      vectors[String(path)] = try tensor.to(.float32)
    }
  }

  /// The weighted sum of the vectors of each module, as PEFT's `add_weighted_adapter` has it: weights that sum to one keep the
  /// base where the adapters leave it. A module that some adapters leave alone has the sum of the others'.
  init(_ adapters: [(name: String, vectors: IA3Vectors)], weights: [Double]) throws {
    configuration = try Self.configuration(adapters)
    vectors = [:]
    for ((name, adapter), weight) in zip(adapters, weights) {
      for (path, vector) in adapter.vectors {
        guard let sum = vectors[path] else {
          vectors[path] = try vector * weight
          continue
        }
        guard sum.shape == vector.shape else {
          throw AdapterError(
            "At \(path) the vector of `\(name)` is \(vector.shape) and the others' are \(sum.shape): the adapters are for different "
              + "base models, or name other `feedforward_modules`.")
        }
        vectors[path] = try sum + vector * weight
      }
    }
    others = try AdapterCombination.others(adapters.map { ($0.name, $0.vectors.others) })
  }

  /// The first adapter's settings with the modules of all.
  private static func configuration(_ adapters: [(name: String, vectors: IA3Vectors)]) throws -> IA3Config {
    var result = adapters[0].vectors.configuration
    let all = adapters.map(\.vectors.configuration)
    func union(_ option: String, _ selections: [ModuleSelection?]) throws -> ModuleSelection? {
      if selections.allSatisfy({ $0 == selections[0] }) { return selections[0] }
      let names = selections.compactMap { selection -> [String]? in
        if case .names(let names)? = selection { names } else { nil }
      }
      guard names.count == selections.count else {
        throw AdapterError(
          "The adapters choose their `\(option)` in different ways, which cannot be joined; train them with lists of names."
        )
      }
      return .names(Array(OrderedSet(names.flatMap { $0 })))
    }
    guard all.allSatisfy({ $0.excludeModules == result.excludeModules }) else {
      throw AdapterError("The adapters have different `exclude_modules`, which cannot be joined.")
    }
    result.targetModules = try union("target_modules", all.map(\.targetModules))
    result.feedforwardModules = try union("feedforward_modules", all.map(\.feedforwardModules))
    let saved = OrderedSet(all.flatMap { $0.common.modulesToSave ?? [] })
    result.common.modulesToSave = saved.isEmpty ? nil : Array(saved)
    return result
  }

  /// Everything under complete names, as a file has it.
  var tensors: [(name: String, tensor: Tensor)] {
    vectors.map { (AdapterTensor.prefix + $0.key + Self.suffix, $0.value) } + others
  }
}
