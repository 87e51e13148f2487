import Torch

/// y = x Wᵀ + b, with the weight in some ``WeightStorage`` and any number of adapters around it.
public final class Linear: Module {
  public var weight: any WeightStorage
  public let bias: Parameter?

  /// The active adapters, innermost first.
  public var adapters: [any LinearAdapter] = []

  public init(weight: any WeightStorage, bias: Parameter? = nil) {
    self.weight = weight
    self.bias = bias
  }

  /// A layer whose elements a checkpoint will fill.
  public convenience init(_ inFeatures: Int, _ outFeatures: Int, bias: Bool) throws {
    self.init(
      weight: DenseWeight(try Parameter(shape: [outFeatures, inFeatures])),
      bias: bias ? try Parameter(shape: [outFeatures]) : nil)
  }

  /// A layer with the parameters of another, and adapters of its own.
  public convenience init(sharing other: Linear) {
    self.init(weight: other.weight, bias: other.bias)
  }

  public var inFeatures: Int { weight.inFeatures }
  public var outFeatures: Int { weight.outFeatures }

  /// `[…, in]` → `[…, out]`, through the adapters.
  public func callAsFunction(_ input: Tensor) throws -> Tensor {
    try LowRankProduct(self)?.callAsFunction(input) ?? apply(adapters[...], to: input)
  }

  /// `[…, in]` → `[…, out]`, without adapters.
  public func base(_ input: Tensor) throws -> Tensor {
    if let matrix = weight.parameter?.value, let packed = packing.copy(of: matrix),
      let output = try packed.linear(input, bias: bias?.value(like: input))
    {
      return output
    }
    return try weight.linear(input, bias: bias?.value(like: input))
  }

  /// The weight in fewer bytes, for generation.
  private var packing = Packing()

  /// The weight and bias when they are all there is to the layer: dense, frozen, without adapters.
  package var plain: PlainProjection? {
    guard adapters.isEmpty, let matrix = weight.parameter?.value, !matrix.requiresGradient,
      bias.map({ !$0.value.requiresGradient }) ?? true
    else { return nil }
    return PlainProjection(weight: matrix, bias: bias?.value, packed: packing.copy(of: matrix))
  }

  package func pack(_ matrix: PackedMatrix) { packing.matrix = matrix }

  /// W x + scale · B A dropout(x) without the bias and without adapters, for `[T, in]`.
  package func product(_ input: Tensor, adding update: LowRankUpdate) throws -> Tensor {
    if let fused = try LowRankProduct(self, adding: update)?.callAsFunction(input) { return fused }
    let dropped = try update.dropout > 0 ? input.dropout(update.dropout) : input
    let low = try dropped.linear(update.a.to(input.dtype))
    return try weight.linear(input, bias: nil) + low.linear(update.b.to(input.dtype)) * update.scale
  }

  private func apply(_ adapters: ArraySlice<any LinearAdapter>, to input: Tensor) throws -> Tensor {
    guard let outermost = adapters.last else { return try base(input) }
    let inner = adapters.dropLast()
    return try outermost.forward(input, through: self) {
      try self.apply(inner, to: $0)
    }
  }

  /// The classes that transformers puts in a layer's place have names of their own.
  public override var typeName: String {
    switch weight.quantized?.encoding {
    case .nf4, .fp4: "Linear4bit"
    case .int8: "Linear8bitLt"
    default: "Linear"
    }
  }

  public override var detail: String {
    "in_features=\(inFeatures), out_features=\(outFeatures), bias=\(bias == nil ? "False" : "True")"
      + (weight is GGUFWeight ? ", weight=\(weight.quantized?.encoding.rawValue ?? "")" : "")
  }
}

extension Linear: PackableWeight {}

/// Something trainable around a frozen linear layer.
///
/// It sees the input, may call the layer within, and gives the output: a low-rank method adds to what `next` gives, a
/// scaling method multiplies it, an orthogonal one turns the input first.
public protocol LinearAdapter: AnyObject {
  /// - Parameters:
  ///   - input: `[…, in]`.
  ///   - layer: the layer itself, for its weight and sizes.
  ///   - next: the layer with the adapters that lie within this one.
  /// - Returns: `[…, out]`.
  func forward(
    _ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor
  ) throws -> Tensor

  /// What the adapter does, when that is no more than adding a low-rank product: it can then be computed in one piece
  /// with the layer, and with other layers that read the same input.
  var lowRankUpdate: LowRankUpdate? { get }
}

extension LinearAdapter {
  public var lowRankUpdate: LowRankUpdate? { nil }
}

/// scale · B A dropout(x), beside a frozen weight.
public struct LowRankUpdate {
  public let a: Tensor  // [r, in]
  public let b: Tensor  // [out, r]
  public let scale: Double
  /// The probability with which features of the input are dropped.
  public let dropout: Double

  public init(a: Tensor, b: Tensor, scale: Double, dropout: Double) {
    self.a = a
    self.b = b
    self.scale = scale
    self.dropout = dropout
  }
}
