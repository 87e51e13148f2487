import CTorch

extension Tensor {
  private func reduced(_ name: String, _ operation: CTReduction, _ dimension: Int?, _ keep: Bool) throws
    -> Tensor
  {
    try Tensor.checked(name, self) {
      ct_reduce(operation, handle, Int64(dimension ?? 0), keep, dimension == nil)
    }
  }

  // Over one dimension, or over all elements when it is nil.
  public func sum(_ dimension: Int? = nil, keepingDimension keep: Bool = false) throws -> Tensor {
    try reduced("sum", CT_SUM, dimension, keep)
  }
  public func mean(_ dimension: Int? = nil, keepingDimension keep: Bool = false) throws -> Tensor {
    try reduced("mean", CT_MEAN, dimension, keep)
  }
  public func max(_ dimension: Int? = nil, keepingDimension keep: Bool = false) throws -> Tensor {
    try reduced("max", CT_MAX, dimension, keep)
  }
  public func min(_ dimension: Int? = nil, keepingDimension keep: Bool = false) throws -> Tensor {
    try reduced("min", CT_MIN, dimension, keep)
  }
  public func argmax(_ dimension: Int? = nil, keepingDimension keep: Bool = false) throws -> Tensor {
    try reduced("argmax", CT_ARGMAX, dimension, keep)
  }
  /// The Euclidean norm.
  public func norm(_ dimension: Int? = nil, keepingDimension keep: Bool = false) throws -> Tensor {
    try reduced("norm", CT_NORM, dimension, keep)
  }
  public func logSumExp(_ dimension: Int? = nil, keepingDimension keep: Bool = false) throws -> Tensor {
    try reduced("logsumexp", CT_LOGSUMEXP, dimension, keep)
  }

  public func softmax(_ dimension: Int = -1) throws -> Tensor {
    try Tensor.checked("softmax", self) { ct_softmax(handle, Int64(dimension), false) }
  }
  public func logSoftmax(_ dimension: Int = -1) throws -> Tensor {
    try Tensor.checked("log_softmax", self) { ct_softmax(handle, Int64(dimension), true) }
  }
  public func cumulativeSum(_ dimension: Int = -1) throws -> Tensor {
    try Tensor.checked("cumsum", self) { ct_cumulative_sum(handle, Int64(dimension)) }
  }

  /// The `count` largest, in descending order, and where they were.
  public func topK(_ count: Int, dimension: Int = -1) throws -> (values: Tensor, indices: Tensor) {
    try pair("topk") { ct_top_k(handle, Int64(count), Int64(dimension), $0, $1) }
  }

  /// Sorted along `dimension`, equal elements in their order.
  public func sorted(_ dimension: Int = -1, descending: Bool = false) throws -> (
    values: Tensor, indices: Tensor
  ) {
    try pair("sort") { ct_sort(handle, Int64(dimension), descending, $0, $1) }
  }

  private func pair(
    _ name: String,
    _ body: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<OpaquePointer?>) -> Int32
  ) throws -> (values: Tensor, indices: Tensor) {
    var values: OpaquePointer?
    var indices: OpaquePointer?
    try checkedStatus(name) { body(&values, &indices) }
    return (Tensor(owning: values!), Tensor(owning: indices!))
  }

  /// Indices drawn without replacement in proportion to the probabilities of each row.
  public func multinomial(_ count: Int) throws -> Tensor {
    try Tensor.checked("multinomial", self) { ct_multinomial(handle, Int64(count)) }
  }

  // MARK: Selection

  /// The slices of `dimension` that `indices` (one-dimensional) names.
  public func selecting(_ indices: Tensor, dimension: Int = 0) throws -> Tensor {
    try Tensor.checked("index_select", self, indices) {
      ct_index_select(handle, Int64(dimension), indices.handle)
    }
  }

  public func gathering(_ indices: Tensor, dimension: Int) throws -> Tensor {
    try Tensor.checked("gather", self, indices) { ct_gather(handle, Int64(dimension), indices.handle) }
  }

  /// Rows of this table `[n, width]` at integer `indices` of any shape → `[…, width]`.
  public func embedding(_ indices: Tensor) throws -> Tensor {
    try Tensor.checked("embedding", self, indices) { ct_embedding(handle, indices.handle) }
  }
}
