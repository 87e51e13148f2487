import Torch

extension LoRAInitialization {
  /// OLoRA: training starts in an orthonormal basis of the weight (Büyükakyüz 2024, arXiv:2406.01775).
  ///
  /// With W = Q R: B = the first r columns of Q, A = the first r rows of R, and the base gives up s B A.
  public static let olora = LoRAInitialization("olora", changesBase: true) { target in
    try target.requireRankWithinWeight("olora")
    let (q, r) = try target.weight().orthogonalTriangularDecomposition()
    return LoRAStart(
      a: try r.slice(0..<target.rank).copy(),
      b: try q.slice(0..<target.rank, dimension: 1).contiguous(), base: .withoutProduct)
  }

  static let oloraEntry = Entry(
    olora, "OLoRA: an orthonormal basis of the weight, which gives its part up (arXiv 2406.01775)")
}
