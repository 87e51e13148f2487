import CTorch

// Decompositions of matrices, in fp32 or fp64: the engine has none for narrower types.

extension Tensor {
  /// Economy singular value decomposition of a matrix: U `[m, k]`, S `[k]` descending, Vᵀ `[k, n]`.
  ///
  /// The sign of each pair of vectors is the engine's choice.
  public func singularValueDecomposition() throws -> (u: Tensor, s: Tensor, vt: Tensor) {
    var u: OpaquePointer?
    var s: OpaquePointer?
    var vt: OpaquePointer?
    try checkedStatus("svd") { ct_svd(handle, &u, &s, &vt) }
    return (Tensor(owning: u!), Tensor(owning: s!), Tensor(owning: vt!))
  }

  /// Economy QR decomposition of a matrix: Q `[m, k]` with orthonormal columns, R `[k, n]` upper triangular.
  public func orthogonalTriangularDecomposition() throws -> (q: Tensor, r: Tensor) {
    var q: OpaquePointer?
    var r: OpaquePointer?
    try checkedStatus("qr") { ct_qr(handle, &q, &r) }
    return (Tensor(owning: q!), Tensor(owning: r!))
  }

  /// The leading part of the singular value decomposition, by random projection and subspace iteration (Halko et al. 2009,
  /// arXiv:0909.4061, algorithms 4.4 and 5.1), as `torch.svd_lowrank` computes it: U `[m, rank]`, S `[rank]`,
  /// Vᵀ `[rank, n]`.
  ///
  /// - Parameters:
  ///   - iterations: passes over the matrix in each direction; each sharpens the gap between the singular values
  ///     that are kept and those that are not.
  ///   - generator: what the projection is drawn from. One of its own gives the same directions whatever else the process draws,
  ///     on other threads too.
  public func leadingSingularValues(rank: Int, iterations: Int, generator: SeededGenerator) throws -> (
    u: Tensor, s: Tensor, vt: Tensor
  ) {
    guard size(0) >= size(1) else {
      let (v, s, ut) = try transposed().leadingSingularValues(
        rank: rank, iterations: iterations, generator: generator)
      return (try ut.transposed(), s, try v.transposed())
    }
    let probe = try generator.normal([size(1), rank]).to(dtype, device: device)
    var basis = try matmul(probe).orthogonalTriangularDecomposition().q  // [m, rank]
    for _ in 0..<iterations {
      let other = try transposed().matmul(basis).orthogonalTriangularDecomposition().q  // [n, rank]
      basis = try matmul(other).orthogonalTriangularDecomposition().q
    }
    let (u, s, vt) = try basis.transposed().matmul(self).singularValueDecomposition()
    return (try basis.matmul(u), s, vt)
  }

  /// X with X · matrix = self, for square matrices `[…, n, n]`.
  public func dividedFromRight(by matrix: Tensor) throws -> Tensor {
    try Tensor.checked("solve", matrix, self) { ct_solve_right(matrix.handle, handle) }
  }
}
