import JSON
import OrderedCollections
import Torch

/// A LoRA adapter as what it is made of: its settings and, by the path of the module, A, B and their scale.
struct LoRAPairs {
  struct Pair {
    var a: Tensor  // [r, in]
    var b: Tensor  // [out, r]
    var scale: Double
    /// Whether it belongs to an embedding, whose names are others and whose delta is (B A)ᵀ.
    var isEmbedding: Bool

    var rank: Int { a.size(0) }

    func tensors(at path: String) -> [(name: String, tensor: Tensor)] {
      let names =
        isEmbedding ? ("lora_embedding_A", "lora_embedding_B") : ("lora_A.weight", "lora_B.weight")
      let prefix = AdapterTensor.prefix + path + "."
      return [(prefix + names.0, a), (prefix + names.1, b)]
    }
  }

  var configuration: LoRAConfig
  var pairs: OrderedDictionary<String, Pair>
  /// Modules trained in full and tables stored beside the adapter, under their complete names.
  var others: [(name: String, tensor: Tensor)]

  /// - Parameters:
  ///   - name: the adapter's, for messages.
  ///   - tensors: under the complete names of its file.
  /// - Throws: ``AdapterError`` for adapters that are more than their pairs.
  init(_ name: String, _ configuration: LoRAConfig, _ tensors: [(name: String, tensor: Tensor)])
    throws
  {
    func refuse(_ option: String, _ reason: String) -> AdapterError {
      AdapterError("The adapter `\(name)` has `\(option)`, \(reason).")
    }
    if configuration.useDoRA {
      throw refuse("use_dora", "whose magnitudes belong to one direction each and cannot be combined")
    }
    if configuration.initLoRAWeights.changesBase {
      throw refuse(
        "init_lora_weights: \(configuration.initLoRAWeights.value.serialized())",
        "and works on a base that gave something up; save it as a plain LoRA first (`graft convert`)")
    }
    if configuration.bias != .none {
      throw refuse("bias", "and biases of several adapters cannot be combined")
    }
    if configuration.loraBias { throw refuse("lora_bias", "and those cannot be combined") }
    if configuration.trainableTokenIndices != nil {
      throw refuse("trainable_token_indices", "and trained tokens cannot be combined")
    }
    self.configuration = configuration
    pairs = [:]
    others = []
    let named = Dictionary(tensors.map { ($0.name, $0.tensor) }) { first, _ in first }
    for (stored, tensor) in tensors {
      let path =
        stored.hasPrefix(AdapterTensor.prefix) ? String(stored.dropFirst(AdapterTensor.prefix.count)) : stored
      for (suffix, other, isEmbedding) in [
        (".lora_A.weight", ".lora_B.weight", false), (".lora_embedding_A", ".lora_embedding_B", true),
      ] where path.hasSuffix(suffix) {
        let module = String(path.dropLast(suffix.count))
        guard let b = named[String(stored.dropLast(suffix.count)) + other] else {
          throw AdapterError("The adapter `\(name)` has no `\(module)\(other)`; save it again.")
        }
        let scale = try configuration.rankAndScale(module).scale
        pairs[module] = Pair(
          a: try tensor.to(.float32), b: try b.to(.float32), scale: scale, isEmbedding: isEmbedding)
      }
      if !path.contains(".lora_") { others.append((stored, tensor)) }
    }
    guard !pairs.isEmpty else { throw AdapterError("The adapter `\(name)` has no pair of A and B.") }
  }

  /// Combined ones.
  init(
    _ configuration: LoRAConfig, pairs: OrderedDictionary<String, Pair>,
    others: [(name: String, tensor: Tensor)]
  ) {
    self.configuration = configuration
    self.pairs = pairs
    self.others = others
  }

  /// Everything under complete names, as a file has it.
  var tensors: [(name: String, tensor: Tensor)] {
    pairs.flatMap { $0.value.tensors(at: $0.key) } + others
  }
}
