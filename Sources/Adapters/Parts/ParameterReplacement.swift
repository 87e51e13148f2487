import NeuralNetworks
import Torch

/// A parameter of the model with another in its place: what `modules_to_save` and trained biases are.
final class ParameterReplacement: AdapterPart {
  enum Place {
    case weight(Linear)
    case table(Embedding)
    case parameter(Parameter)
  }

  /// The name in PEFT's files.
  let key: String
  let replacement: Parameter
  private let place: Place
  private let isBesideOriginal: Bool
  private var displaced: Displaced?

  private enum Displaced {
    case storage(any WeightStorage)
    case parameter(Parameter)
    case value(Tensor)
  }

  /// A trainable fp32 copy of what is at `place` now.
  ///
  /// - Parameters:
  ///   - isBesideOriginal: whether PEFT keeps the base's own beside it and counts both.
  ///   - keepsType: whether the copy has the type of what it stands in for; the optimizer then rounds updates by chance.
  init(key: String, place: Place, isBesideOriginal: Bool = false, keepsType: Bool = false) throws {
    self.key = key
    self.place = place
    self.isBesideOriginal = isBesideOriginal
    let current: Tensor =
      switch place {
      case .weight(let layer): try layer.weight.dense()
      case .table(let embedding): try embedding.dense()
      case .parameter(let parameter): parameter.value
      }
    // fp32: steps of training are smaller than bf16 can hold.
    let wide = try keepsType ? current : current.to(.float32)
    let copy = try wide === current ? current.copy() : wide
    replacement = Parameter(try copy.detached())
    try replacement.setTrainable(true)
  }

  var parameters: [(key: String, parameter: Parameter)] { [(key, replacement)] }
  var replacedCount: Int { isBesideOriginal ? 0 : replacement.count }

  func insert() {
    guard displaced == nil else { return }
    switch place {
    case .weight(let layer):
      displaced = .storage(layer.weight)
      layer.weight = DenseWeight(replacement)
    case .table(let embedding):
      displaced = .parameter(embedding.weight)
      embedding.weight = replacement
    case .parameter(let parameter):
      displaced = .value(parameter.value)
      parameter.value = replacement.value
    }
  }

  func remove() {
    switch (place, displaced) {
    case (.weight(let layer), .storage(let storage)): layer.weight = storage
    case (.table(let embedding), .parameter(let parameter)): embedding.weight = parameter
    case (.parameter(let parameter), .value(let value)): parameter.value = value
    default: break
    }
    displaced = nil
  }

  /// Puts the trained values in, in the type of what they displace.
  func merge() throws {
    insert()
    switch (place, displaced) {
    case (.weight(let layer), .storage(let storage)):
      layer.weight = DenseWeight(Parameter(try detached(like: storage.dense())))
    case (.table(let embedding), .parameter(let parameter)):
      embedding.weight = Parameter(try detached(like: parameter.value))
    case (.parameter(let parameter), .value(let value)):
      parameter.value = try detached(like: value)
    default: break
    }
  }

  func unmerge() { remove() }

  private func detached(like original: Tensor) throws -> Tensor {
    try replacement.value.detached().to(original.dtype)
  }
}

extension Module {
  /// The parameters at and below `path`, each as a place where a replacement can go.
  func places(below path: String) -> [(name: String, place: ParameterReplacement.Place)] {
    guard let root = module(at: path) else { return [] }
    return root.namedModules(prefix: path).flatMap { path, module in
      module.parts.compactMap { name, part -> (name: String, place: ParameterReplacement.Place)? in
        let key = "\(path).\(name)"
        // In whatever form it is held.
        if name == "weight", let layer = module as? Linear { return (key, .weight(layer)) }
        guard case .parameter(let parameter) = part else { return nil }
        if name == "weight", let table = module as? Embedding { return (key, .table(table)) }
        return (key, .parameter(parameter))
      }
    }
  }
}
