import Torch

extension LoRAInitialization {
  /// A and B random with B A = 0: both learn from the first step, and the model is unchanged
  /// (https://datta0.github.io/posts/rethink-lora-init).
  ///
  /// The rows of a random orthogonal `[r, r]` matrix are dealt to both, Q₁ and Q₂ with Q₂ Q₁ᵀ = 0: A = Q₁ᵀ X₁ / 10,
  /// B = X₂ Q₂ / 10.
  public static let orthogonal = LoRAInitialization("orthogonal") { target in
    let rank = target.rank
    guard rank.isMultiple(of: 2) else {
      throw AdapterError(
        "`r` is \(rank) at \(target.path), and `orthogonal` shares the directions between A and B: write an even number."
      )
    }
    let q = try Tensor.normal([rank, rank]).orthogonalTriangularDecomposition().q
    func rows(_ first: Int) throws -> Tensor {
      try q.selecting(Tensor(stride(from: first, to: rank, by: 2).map(Int64.init)))  // [r / 2, r]
    }
    let input = try Tensor.normal([target.layer.inFeatures, rank / 2])
    let output = try Tensor.normal([rank / 2, target.layer.outFeatures])
    return LoRAStart(
      a: try (input.matmul(rows(0)).transposed() / 10).contiguous().to(device: target.device),
      b: try (output.transposed().matmul(rows(1)) / 10).contiguous().to(device: target.device))
  }

  static let orthogonalEntry = Entry(
    orthogonal, "both are random with B A = 0, for an even `r`")
}
