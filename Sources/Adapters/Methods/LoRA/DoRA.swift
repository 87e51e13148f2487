import NeuralNetworks
import Torch

/// DoRA: magnitude and direction of each row of the weight are trained apart (Liu et al. 2024, arXiv:2402.09353).
///
///     y = m / ‖V‖ ∘ V x + b,  V = W + s · B A
///
/// m `[out]` starts at the norms of the start's rows. The norm is taken as a constant by the gradient (section 4.3). With
/// dropout the update alone reads the dropped input, and so does the base's share of the change, as in PEFT.
final class DoRALinear: LinearChange {
  let lora: LoRALinear
  let magnitude: Parameter  // [out]
  private let norms: UpdatedNorms

  /// - Parameter layer: with nothing but the base's own weight.
  init(_ lora: LoRALinear, layer: Linear) throws {
    self.lora = lora
    let storage = lora.substitute ?? layer.weight
    norms = UpdatedNorms { try storage.dense() }
    magnitude = Parameter(try norms(lora.factors(), scale: lora.scale))
    try magnitude.setTrainable(true)
  }

  var parameters: [(name: String, parameter: Parameter)] {
    lora.parameters + [("lora_magnitude_vector", magnitude)]
  }

  var rank: Int? { lora.rank }

  var printed: PrintedLayer { lora.printed.with(magnitude: "lora.dora.DoraLinearLayer") }

  var trainingState: [(name: String, tensor: Tensor)] { lora.trainingState }

  var isTraining: Bool {
    get { lora.isTraining }
    set { lora.isTraining = newValue }
  }

  /// m / ‖V‖ `[out]` in fp32; the gradient goes to m.
  private func ratio() throws -> Tensor {
    try magnitude.value
      / norms(lora.factors(), scale: lora.scale, state: isTraining ? nil : lora.versions)
  }

  func forward(
    _ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor
  ) throws -> Tensor {
    let ratio = try ratio().to(input.dtype)
    guard lora.dropout == 0 else { return try forwardDropping(input, through: layer, ratio, next(input)) }
    // The magnitude leaves the bias alone.
    let bias = try layer.bias?.value(like: input)
    let (a, b) = try lora.factors()
    if layer.adapters.first === self {
      let update = LowRankUpdate(a: a, b: b, scale: lora.scale, dropout: 0)
      let output = try layer.product(input, adding: update) * ratio
      return try bias.map { try output + $0 } ?? output
    }
    let output = try (next(input) + lora.change(input)) * ratio
    return try bias.map { try output - $0 * (ratio - 1) } ?? output
  }

  /// next(x) + (m / ‖V‖ − 1) W d + m / ‖V‖ s B A d, where d is x with features dropped and W is without the start's share.
  private func forwardDropping(_ input: Tensor, through layer: Linear, _ ratio: Tensor, _ output: Tensor)
    throws
    -> Tensor
  {
    let dropped = try input.dropout(lora.dropout)
    let base = try layer.weight.linear(dropped, bias: nil)
    let changed = try output + (base + lora.change(dropped)) * ratio - base
    guard let (given, givenDropped) = try lora.given(input).map({ ($0, try lora.given(dropped)) }) else {
      return changed
    }
    return try changed - given + givenDropped!
  }

  /// m / ‖V‖ ∘ V.
  func merged(_ weight: Tensor) throws -> Tensor { try lora.merged(weight) * ratio().unsqueezed(1) }
}

/// DoRA at an embedding: the columns of the table `[vocabulary, width]` have magnitudes.
final class DoRAEmbedding: EmbeddingChange {
  let lora: LoRAEmbedding
  let magnitude: Parameter  // [width]
  private let norms: UpdatedNorms

  init(_ lora: LoRAEmbedding, table: Embedding) throws {
    self.lora = lora
    let weight = table.weight
    norms = UpdatedNorms(ofColumns: true) { try table.dense(weight) }
    magnitude = Parameter(try norms((lora.a.value, lora.b.value), scale: lora.scale))
    try magnitude.setTrainable(true)
  }

  var parameters: [(name: String, parameter: Parameter)] {
    lora.parameters + [("lora_magnitude_vector", magnitude)]
  }

  /// PEFT's class inherits its printing and adds to it, so that the prefix stands twice.
  var printed: PrintedLayer { lora.printed.with(magnitude: "lora.dora.lora.dora.DoraEmbeddingLayer") }

  var isTraining = false

  private func ratio() throws -> Tensor {
    let (a, b) = (lora.a.value, lora.b.value)
    return try magnitude.value
      / norms((a, b), scale: lora.scale, state: isTraining ? nil : [a.version, b.version])
  }

  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor {
    try lora.forward(tokens, output: output) * ratio().to(output.dtype)
  }

  func merged(_ table: Tensor) throws -> Tensor { try lora.merged(table) * ratio() }
}

/// The norms of the rows of W + s · B A, without that matrix:
///
///     ‖wᵢ + s bᵢ A‖² = ‖wᵢ‖² + 2 s bᵢ · (A wᵢ) + s² bᵢ (A Aᵀ) bᵢᵀ
///
/// which costs a product of W with r columns. W's own norms are computed once, and outside training the result is kept
/// until A or B changes.
final class UpdatedNorms {
  private let weight: () throws -> Tensor
  private let isOfColumns: Bool
  private var squares: (weight: Tensor, values: Tensor)?
  private var last: (state: [Int], value: Tensor)?

  /// - Parameters:
  ///   - ofColumns: whether W is the transpose of `weight`, as at an embedding.
  ///   - weight: the base's matrix, in any type.
  init(ofColumns: Bool = false, weight: @escaping () throws -> Tensor) {
    self.weight = weight
    isOfColumns = ofColumns
  }

  /// fp32 `[rows]`, a constant for the gradient.
  ///
  /// - Parameter state: what changes whenever A or B do; the result for the same state is kept. Nil keeps none.
  func callAsFunction(_ factors: (a: Tensor, b: Tensor), scale: Double, state: [Int]? = nil) throws -> Tensor
  {
    if let state, let last, last.state == state { return last.value }
    last = nil
    let value = try withoutGradient { try norms(weight(), factors, scale: scale) }
    if let state { last = (state, value) }
    return value
  }

  private func norms(_ stored: Tensor, _ factors: (a: Tensor, b: Tensor), scale: Double) throws -> Tensor {
    let weight = try isOfColumns ? stored.transposed() : stored
    guard weight.device.kind != .meta else { return try .empty([weight.size(0)], device: .meta) }
    let (a, b) = factors
    let crossed = try inPieces(weight) { try $0.linear(a) }  // W Aᵀ [rows, r]
    let own = try b.matmul(a.matmul(a.transposed()))  // B (A Aᵀ) [rows, r]
    let change = try ((crossed * 2 + own * scale) * b).sum(1) * scale
    if squares?.weight !== stored {
      squares = (stored, try inPieces(weight) { try $0.squared().sum(1) })
    }
    // A row of zeros stays one: its magnitude is zero.
    return try (squares!.values + change).clamped(1e-30...Double.infinity).squareRoot()
  }

  /// `body` over rows of `weight` in fp32, some at a time: a bf16 weight is never whole in fp32.
  private func inPieces(_ weight: Tensor, _ body: (Tensor) throws -> Tensor) throws -> Tensor {
    let count = weight.size(0)
    let piece = max(1, 4_194_304 / max(weight.size(1), 1))
    return try .concatenated(
      stride(from: 0, to: count, by: piece).map {
        try body(weight.slice($0..<min($0 + piece, count)).to(.float32))
      })
  }
}
