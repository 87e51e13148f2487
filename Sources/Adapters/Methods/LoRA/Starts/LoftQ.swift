import NeuralNetworks
import Torch

extension LoRAInitialization {
  /// LoftQ: the base is quantized, and A and B start at what that takes away (Li et al. 2023, arXiv:2310.08659, algorithm 1).
  ///
  /// With Q(·) for quantizing, and L R for the leading r directions of a matrix, √S on each side:
  ///
  ///     Q₁ = Q(W),  L₁ R₁ ≈ W − Q₁;   Qₜ = Q(W − Lₜ₋₁ Rₜ₋₁),  Lₜ Rₜ ≈ W − Qₜ
  ///
  /// B = L, A = R, and the layer computes with Q instead of W. L R stands for W − Q itself, as in PEFT: the start is nearest to
  /// the base where s = alpha / r is 1.
  public static let loftQ = LoRAInitialization("loftq", changesBase: true) { target in
    try target.requireRankWithinWeight("loftq")
    guard target.layer.weight.quantized == nil else {
      throw AdapterError(
        "`init_lora_weights: loftq` quantizes the base by itself, and the weight of \(target.path) is quantized already. Load the "
          + "base as it is, without load_in_4bit and load_in_8bit; or keep those, with init_lora_weights: true and "
          + "replace_lora_weights_loftq: true.")
    }
    let stored = try target.layer.weight.dense()
    let weight = try stored.to(.float32)
    var quantized = try target.loftQ.quantize(weight, dtype: stored.dtype)
    var (a, b) = try quantized.factors(ofRest: weight, rank: target.rank)
    for _ in 1..<target.loftQ.iterations {
      quantized = try target.loftQ.quantize(weight - b.matmul(a), dtype: stored.dtype)
      (a, b) = try quantized.factors(ofRest: weight, rank: target.rank)
    }
    return LoRAStart(a: a, b: b, base: .replaced(by: quantized))
  }

  static let loftQEntry = Entry(
    loftQ,
    "LoftQ: the weight is quantized, and A and B start at the principal directions of what that takes away (arXiv 2310.08659); "
      + "see `loftq_config`")
}

extension LoftQConfig {
  /// `matrix` `[out, in]` in fp32 in the form that the bits ask for; it is given back in `dtype`.
  fileprivate func quantize(_ matrix: Tensor, dtype: DType) throws -> any QuantizedWeight {
    switch bits {
    case .four: FourBitWeight(try QuantizedMatrix(fourBit: .nf4, matrix), dtype: dtype)
    case .eight: Int8Weight(try QuantizedMatrix(int8: matrix), dtype: dtype)
    }
  }
}

extension QuantizedWeight {
  /// A `[rank, in]` and B `[out, rank]` whose product is nearest to what quantizing took from `weight` `[out, in]`, in fp32.
  func factors(ofRest weight: Tensor, rank: Int) throws -> (a: Tensor, b: Tensor) {
    let rest = try weight - matrix.dequantized(.float32).to(device: weight.device)
    let (u, s, vt) = try rest.singularValueDecomposition()
    let root = try s.slice(0..<rank).squareRoot()
    return (
      try (root.unsqueezed(1) * vt.slice(0..<rank)).contiguous(),
      try (u.slice(0..<rank, dimension: 1) * root).contiguous()
    )
  }
}
