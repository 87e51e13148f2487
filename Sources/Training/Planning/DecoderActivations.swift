import Models
import NeuralNetworks

/// What a decoder keeps between the forward and the backward pass, and holds at one time.
///
/// It follows the kernels of the CPU, each of which says in its file what it saves: a norm its input, attention its projection and
/// its output, SwiGLU its projection, a linear layer its input when it has a low-rank adapter or is trained, and nothing otherwise.
struct DecoderActivations {
  /// Bytes a token.
  private let perLayer: [Int]
  private let hidden: Int
  private let transient: Int
  private let tables: Int
  private let vocabulary: Int
  private let elementSize: Int
  /// The gradient of a trained output embedding, in fp32, which the cross-entropy sums.
  private let headGradient: Int
  /// What trained weights of another type are computed with, until their gradients are there.
  let copies: Int
  /// How many layers, from the first one on, are run again.
  private let checkpointedLayers: Int
  /// Whether their inputs wait elsewhere.
  private let offloading: Bool

  /// The cross-entropy's piece of the logits.
  private static let logitsPiece = 64 << 20

  /// - Parameter decoder: the backbone of `model`.
  init(
    _ model: any PretrainedModel, _ decoder: DecoderModel, elementSize: Int, _ arguments: TrainingArguments
  ) throws {
    let layers = decoder.layers
    self.elementSize = elementSize
    checkpointedLayers =
      arguments.gradientCheckpointing
      ? min(arguments.gradientCheckpointingLayers ?? layers.count, layers.count) : 0
    offloading = arguments.activationOffloading
    let heads = try model.configuration.integer("num_attention_heads")
    // Nothing is kept before the first layer that is trained.
    var reached = !model.inputEmbedding.adapters.isEmpty
    var perLayer: [Int] = []
    for layer in layers {
      perLayer.append(Self.kept(layer, heads: heads, elementSize: elementSize, reached: &reached))
    }
    self.perLayer = perLayer
    let hidden = model.inputEmbedding.weight.shape[1] * elementSize
    self.hidden = hidden
    vocabulary = model.head.outFeatures * elementSize
    headGradient = model.head.weight.parameter.map { $0.isTrainable ? 4 * $0.count : 0 } ?? 0
    let trained =
      (layers.dropFirst(checkpointedLayers).flatMap { $0.namedModules().map(\.module) } + [model.head])
      .compactMap { ($0 as? NeuralNetworks.Linear)?.weight.parameter }
    copies = trained.reduce(0) { sum, weight in
      weight.isTrainable && weight.value.dtype.byteCount != elementSize
        ? sum + weight.count * elementSize : sum
    }
    // The gradients of gate, up, their product and the layer's output, of which all four live in the MLP's backward.
    transient = layers.map { hidden + 3 * $0.mlp.gateProj.outFeatures * elementSize }.max() ?? 0
    // Cosines and sines in fp32.
    tables = (layers.first.map { $0.selfAttn.qProj.outFeatures / max(heads, 1) } ?? 0) * 8
  }

  /// Bytes a token that one layer keeps.
  ///
  /// - Parameter reached: whether the layer's input depends on something trained; after the layer, whether its output does.
  private static func kept(_ layer: DecoderLayer, heads: Int, elementSize: Int, reached: inout Bool) -> Int {
    let attention = layer.selfAttn
    let projections = [attention.qProj, attention.kProj, attention.vProj]
    let size = attention.qProj.inFeatures
    var elements = 0
    func adapted(_ layers: [NeuralNetworks.Linear], inputIsKept: Bool) {
      let adapters = layers.flatMap { layer in layer.adapters.map { (layer, $0) } }
      let trained = layers.first { $0.weight.parameter?.isTrainable == true }
      guard let first = adapters.first?.0 ?? trained else { return }
      reached = true
      if !inputIsKept { elements += first.inFeatures }
      var drops = false
      for (layer, adapter) in adapters {
        if let update = adapter.lowRankUpdate {
          elements += update.a.size(0)
          drops = drops || update.dropout > 0
        } else {
          // Computed in plain operations, which keep their results.
          elements += layer.inFeatures + 2 * layer.outFeatures
        }
      }
      if drops { elements += first.inFeatures }
    }

    if reached { elements += size }  // the input of the first norm
    adapted(projections, inputIsKept: false)
    let queries = attention.qProj.outFeatures
    if reached {
      elements += projections.reduce(0) { $0 + $1.outFeatures } + queries
    }
    let statistics = reached ? 4 * heads : 0
    adapted([attention.oProj], inputIsKept: reached)
    if reached { elements += size }  // the input of the second norm
    adapted([layer.mlp.gateProj, layer.mlp.upProj], inputIsKept: false)
    if reached { elements += 2 * layer.mlp.gateProj.outFeatures }
    adapted([layer.mlp.downProj], inputIsKept: false)
    return elements * elementSize + statistics
  }

  /// Bytes that live from the forward pass to the backward pass.
  func kept(_ batch: MemoryPlan.Batch) -> Int {
    let again = perLayer.prefix(checkpointedLayers)
    // Those that are run again keep their input, or one of them does, and one is being run.
    let inputs = offloading ? min(again.count, 1) : again.count
    let layers =
      perLayer.dropFirst(checkpointedLayers).reduce(0, +) + inputs * hidden + (again.max() ?? 0)
    // The input of the last norm, its output, and the rotary tables.
    return batch.tokens * (layers + 2 * hidden + tables)
  }

  /// Bytes beside those at the worst moment: in the cross-entropy, or in the backward pass of a layer.
  func workspace(_ batch: MemoryPlan.Batch) -> Int {
    // The states at supervised positions and their gradient, made on the way forward.
    let loss = min(batch.supervised * vocabulary, Self.logitsPiece) + headGradient
    return max(loss, batch.tokens * transient) + 2 * batch.supervised * hidden
  }
}
