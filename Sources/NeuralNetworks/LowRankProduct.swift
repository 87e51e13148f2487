import Torch

/// A frozen weight with low-rank updates, computed in one piece: x Wᵀ + b + Σ scale · (mask · x Aᵀ) Bᵀ.
///
/// The backward pass has no product for W, and keeps nothing but x and x Aᵀ. A quantized weight is decoded into the
/// product, once in each direction.
struct LowRankProduct {
  /// Matrices whose outputs count behind one another.
  enum Weight {
    case dense([Tensor])
    case quantized([QuantizedMatrix], computeType: DType?)
  }

  private let weight: Weight
  private let bias: Tensor?
  private let pairs: [(a: Tensor, b: Tensor, scale: Double, firstOutput: Int)]
  private let dropout: Double

  /// The layer with its adapters; nil when it has none, or when one of them is more than a low-rank update.
  init?(_ layer: Linear) {
    guard !layer.adapters.isEmpty, let weight = Weight(layer.weight) else { return nil }
    self.init([layer], weight: weight, bias: layer.bias?.value)
  }

  /// Layers that read the same input, whose weights are the rows of `weight` in their order.
  init?(_ layers: [Linear], weight: Weight, bias: Tensor?) {
    if case .dense(let matrices) = weight, matrices.contains(where: \.requiresGradient) { return nil }
    guard bias.map({ !$0.requiresGradient }) ?? true else { return nil }
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

  /// The layer's weight with one update and without its bias; nil when its weight is trained.
  init?(_ layer: Linear, adding update: LowRankUpdate) {
    guard let weight = Weight(layer.weight) else { return nil }
    self.weight = weight
    bias = nil
    pairs = [(update.a, update.b, update.scale, 0)]
    dropout = update.dropout
  }

  /// `[T, in]` → `[T, out]`; nil when the input is of another shape or type than the weight takes.
  func callAsFunction(_ input: Tensor) throws -> Tensor? {
    guard input.rank == 2, weight.takes(input.dtype) else { return nil }
    let bias = try bias?.to(input.dtype)
    let mask =
      try dropout > 0 && !pairs.isEmpty
      ? Tensor.ones(input.shape, dtype: input.dtype, device: input.device).dropout(dropout) : nil
    switch weight {
    case .dense(let matrices):
      if pairs.isEmpty, matrices.count == 1 { return try input.linear(matrices[0], bias: bias) }
      return try input.loraLinear(weights: matrices, bias: bias, pairs: pairs, mask: mask)
    case .quantized(let parts, _):
      return try input.quantizedLinear(parts, bias: bias, pairs: pairs, mask: mask)
    }
  }
}

extension LowRankProduct.Weight {
  /// The weight of one layer; nil when it is trained.
  fileprivate init?(_ storage: any WeightStorage) {
    if let matrix = storage.quantized {
      self = .quantized([matrix], computeType: storage.computeType)
    } else if let matrix = storage.parameter?.value, !matrix.requiresGradient {
      self = .dense([matrix])
    } else {
      return nil
    }
  }

  fileprivate func takes(_ type: DType) -> Bool {
    switch self {
    case .dense(let matrices): matrices.allSatisfy { $0.dtype == type }
    case .quantized(_, let computeType): (computeType ?? type) == type
    }
  }
}
