import Torch

/// A frozen weight with low-rank updates, computed in one piece: x Wᵀ + b + Σ scale · (mask · x Aᵀ) Bᵀ.
///
/// The backward pass has no product for W, and keeps nothing but x and x Aᵀ.
struct LowRankProduct {
  private let weight: Tensor
  private let bias: Tensor?
  private let pairs: [(a: Tensor, b: Tensor, scale: Double, firstOutput: Int)]
  private let dropout: Double

  /// The layer with its adapters; nil when it has none, or when one of them is more than a low-rank update.
  init?(_ layer: Linear) {
    guard !layer.adapters.isEmpty, let weight = layer.weight.parameter?.value else { return nil }
    self.init([layer], weight: weight, bias: layer.bias?.value)
  }

  /// Layers that read the same input, whose weights are the rows of `weight` in their order.
  init?(_ layers: [Linear], weight: Tensor, bias: Tensor?) {
    guard !weight.requiresGradient, bias.map({ !$0.requiresGradient }) ?? true else { return nil }
    var pairs: [(a: Tensor, b: Tensor, scale: Double, firstOutput: Int)] = []
    var dropout: Double?
    var firstOutput = 0
    for layer in layers {
      for adapter in layer.adapters {
        // One mask serves all, so they must drop alike.
        guard let update = adapter.lowRankUpdate, update.dropout == dropout ?? update.dropout else {
          return nil
        }
        dropout = update.dropout
        pairs.append((update.a, update.b, update.scale, firstOutput))
      }
      firstOutput += layer.outFeatures
    }
    self.weight = weight
    self.bias = bias
    self.pairs = pairs
    self.dropout = dropout ?? 0
  }

  /// The layer's weight with one update and without its bias; nil when its weight is not held as one frozen tensor.
  init?(_ layer: Linear, adding update: LowRankUpdate) {
    guard let weight = layer.weight.parameter?.value, !weight.requiresGradient else { return nil }
    self.weight = weight
    bias = nil
    pairs = [(update.a, update.b, update.scale, 0)]
    dropout = update.dropout
  }

  /// `[T, in]` → `[T, out]`; nil when the input is of another shape or type than the weight takes.
  func callAsFunction(_ input: Tensor) throws -> Tensor? {
    guard input.rank == 2, input.dtype == weight.dtype else { return nil }
    let bias = try bias?.to(input.dtype)
    guard !pairs.isEmpty else { return try input.linear(weight, bias: bias) }
    let mask =
      try dropout > 0
      ? Tensor.ones(input.shape, dtype: input.dtype, device: input.device).dropout(dropout) : nil
    return try input.loraLinear(weight: weight, bias: bias, pairs: pairs, mask: mask)
  }
}
