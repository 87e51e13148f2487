import NeuralNetworks
import Torch

/// The pair A, B beside one linear layer: y = W x + b + s · B A x.
///
/// Where the start took s · B₀ A₀ out of the weight, that is W − s · B₀ A₀, computed as it stands: the base's own weight is
/// untouched in whatever form it is held, and no second copy of it is kept. Where it put another weight in its place, a
/// ``WeightSubstitution`` does that.
final class LoRALinear: LinearChange {
  let a: Parameter  // [r, in]
  let b: Parameter  // [out, r]
  let bias: Parameter?  // [out]
  let scale: Double
  /// A₀ and B₀; nil when the start left the weight alone.
  let start: (a: Tensor, b: Tensor)?
  /// What the start put in the weight's place.
  let substitute: (any WeightStorage)?
  private let loraDropout: Double
  var isTraining = false

  init(_ target: LoRATarget, _ configuration: LoRAConfig) throws {
    scale = target.scale
    loraDropout = configuration.loraDropout
    let first = try configuration.initLoRAWeights(target)
    a = Parameter(first.a)
    b = Parameter(first.b)
    switch first.base {
    case .asItIs: (start, substitute) = (nil, nil)
    case .withoutProduct: (start, substitute) = ((try first.a.copy(), try first.b.copy()), nil)
    case .replaced(let weight): (start, substitute) = ((try first.a.copy(), try first.b.copy()), weight)
    }
    bias =
      configuration.loraBias
      ? Parameter(try .zeros([target.layer.outFeatures], device: target.device)) : nil
    for parameter in [a, b] + (bias.map { [$0] } ?? []) { try parameter.setTrainable(true) }
  }

  var parameters: [(name: String, parameter: Parameter)] {
    [("lora_A.weight", a), ("lora_B.weight", b)] + (bias.map { [("lora_B.bias", $0)] } ?? [])
  }

  var rank: Int? { a.shape[0] }

  var printed: PrintedLayer {
    let (rank, inFeatures) = (a.shape[0], a.shape[1])
    return .lora(
      "lora.Linear", dropout: loraDropout,
      a: .linear(inFeatures: inFeatures, outFeatures: rank, bias: false),
      b: .linear(inFeatures: rank, outFeatures: b.shape[0], bias: bias != nil))
  }

  /// What the weight is without; nil when that is nothing.
  private var takenOut: (a: Tensor, b: Tensor)? { substitute == nil ? start : nil }

  /// The start is found again from the base; a run that is taken up goes on from the very same bits.
  var trainingState: [(name: String, tensor: Tensor)] {
    start.map { [("lora_A.start", $0.a), ("lora_B.start", $0.b)] } ?? []
  }

  /// In effect now.
  var dropout: Double { isTraining ? loraDropout : 0 }

  func forward(
    _ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor
  ) throws -> Tensor {
    let dropped = try dropout > 0 ? input.dropout(dropout) : input
    let low = try dropped.linear(a.value(like: input))  // [T, r]
    let high = try low.linear(b.value(like: input), bias: bias?.value(like: input))
    let output = try next(input) + high * scale
    return try given(input).map { try output - $0 } ?? output
  }

  /// s · B₀ A₀ x, what the start took out of the base; nil when that is nothing.
  func given(_ input: Tensor) throws -> Tensor? {
    try takenOut.map { try input.linear($0.a.to(input.dtype)).linear($0.b.to(input.dtype)) * scale }
  }

  /// The whole change of the layer without dropout and bias.
  func change(_ input: Tensor) throws -> Tensor {
    let (a, b) = try factors()
    return try input.linear(a.to(input.dtype)).linear(b.to(input.dtype)) * scale
  }

  var lowRankUpdate: LowRankUpdate? {
    // What was taken out is not dropped with the rest.
    guard bias == nil, takenOut == nil || dropout == 0, let (a, b) = try? factors() else { return nil }
    return LowRankUpdate(a: a, b: b, scale: scale, dropout: dropout)
  }

  /// The whole change of the layer's weight as one pair: A `[r, in]` and B `[out, r]`, or [A | A₀] and [B | −B₀] of twice the
  /// rank.
  func factors() throws -> (a: Tensor, b: Tensor) { try pair(without: takenOut) }

  /// What training changed, as one pair for the base's own weight.
  func learnedFactors() throws -> (a: Tensor, b: Tensor) { try pair(without: start) }

  private func pair(without start: (a: Tensor, b: Tensor)?) throws -> (a: Tensor, b: Tensor) {
    guard let start else { return (a.value, b.value) }
    return (
      try .concatenated([a.value, start.a]), try .concatenated([b.value, -start.b], dimension: 1)
    )
  }

  /// Changes whenever ``factors()`` does.
  var versions: [Int] {
    [a.value, b.value].map(\.version) + (takenOut.map { [$0.a.version, $0.b.version] } ?? [])
  }

  /// W + s B A.
  func merged(_ weight: Tensor) throws -> Tensor {
    let (a, b) = try factors()
    return try weight + b.matmul(a) * scale
  }

  func merged(bias current: Tensor?) throws -> Tensor? {
    guard let bias else { return current }
    guard let current else {
      throw AdapterError(
        "the layer has no bias that `lora_bias` could be merged into. Use the adapter unmerged, or train without lora_bias."
      )
    }
    return try current + bias.value * scale
  }
}

extension PrintedLayer {
  /// LoRA's layers have the places of all its kinds, whichever are in use.
  static func lora(
    _ name: String, dropout: Double, a: PrintedModule? = nil, b: PrintedModule? = nil,
    embeddingA: [Int]? = nil,
    embeddingB: [Int]? = nil
  ) -> PrintedLayer {
    PrintedLayer(
      name,
      slots: [
        Slot("lora_dropout", .module(.dropout(dropout))), Slot("lora_A", .module(a)),
        Slot("lora_B", .module(b)), Slot("lora_embedding_A", .parameter(shape: embeddingA)),
        Slot("lora_embedding_B", .parameter(shape: embeddingB)),
        Slot("lora_magnitude_vector", .module(nil)),
      ])
  }

  /// The same with a magnitude of the class `name`.
  func with(magnitude name: String) -> PrintedLayer {
    PrintedLayer(
      self.name,
      slots: slots.map { slot in
        slot.name == "lora_magnitude_vector" ? Slot(slot.name, .module(PrintedModule(name))) : slot
      })
  }
}
