import CTorch

extension Tensor {
  /// The same elements in another shape; one size may be -1. A copy only when the layout needs it.
  public func reshaped(_ shape: [Int]) throws -> Tensor {
    try Tensor.checked("reshape to \(shape)", self) { shape.withShape { ct_reshape(handle, $0, $1) } }
  }

  public func reshaped(_ shape: Int...) throws -> Tensor { try reshaped(shape) }

  /// Sizes of one repeated without a copy; -1 keeps a size.
  public func expanded(_ shape: [Int]) throws -> Tensor {
    try Tensor.checked("expand to \(shape)", self) { shape.withShape { ct_expand(handle, $0, $1) } }
  }

  public func transposed(_ first: Int, _ second: Int) throws -> Tensor {
    try Tensor.checked("transpose", self) { ct_transpose(handle, Int64(first), Int64(second)) }
  }

  /// The matrix transpose: the last two dimensions exchanged.
  public func transposed() throws -> Tensor { try transposed(-2, -1) }

  public func permuted(_ order: [Int]) throws -> Tensor {
    try Tensor.checked("permute to \(order)", self) { order.withShape { ct_permute(handle, $0, $1) } }
  }

  /// A view of `range` along `dimension`.
  public func slice(_ range: Range<Int>, dimension: Int = 0) throws -> Tensor {
    try Tensor.checked("slice \(range) of dimension \(dimension)", self) {
      ct_narrow(handle, Int64(dimension), Int64(range.lowerBound), Int64(range.count))
    }
  }

  /// Views of consecutive pieces of `sizes` along `dimension`.
  public func split(_ sizes: [Int], dimension: Int) throws -> [Tensor] {
    var start = 0
    return try sizes.map { size in
      defer { start += size }
      return try slice(start..<start + size, dimension: dimension)
    }
  }

  public func unsqueezed(_ dimension: Int) throws -> Tensor {
    try Tensor.checked("unsqueeze", self) { ct_unsqueeze(handle, Int64(dimension)) }
  }

  public func squeezed(_ dimension: Int) throws -> Tensor {
    try Tensor.checked("squeeze", self) { ct_squeeze(handle, Int64(dimension)) }
  }

  public static func concatenated(_ tensors: [Tensor], dimension: Int = 0) throws -> Tensor {
    guard let result = withHandles(tensors, { ct_concatenate($0, $1, Int64(dimension)) }) else {
      throw TorchError.last("concatenate", tensors)
    }
    return Tensor(owning: result)
  }

  public static func stacked(_ tensors: [Tensor], dimension: Int = 0) throws -> Tensor {
    guard let result = withHandles(tensors, { ct_stack($0, $1, Int64(dimension)) }) else {
      throw TorchError.last("stack", tensors)
    }
    return Tensor(owning: result)
  }

  public func repeatInterleaved(_ repeats: Int, dimension: Int) throws -> Tensor {
    try Tensor.checked("repeat_interleave", self) {
      ct_repeat_interleave(handle, Int64(repeats), Int64(dimension))
    }
  }

  // MARK: Conversion

  /// The same values with another type or on another device; self when nothing changes.
  public func to(_ dtype: DType? = nil, device: Device? = nil) throws -> Tensor {
    let target = dtype ?? self.dtype
    let place = device ?? self.device
    if target == self.dtype, place == self.device { return self }
    return try Tensor.checked("convert to \(target.torchName) \(place)", self) {
      ct_to(handle, target.engineValue, place.engineValue)
    }
  }

  /// A copy in the host's memory, where a CUDA device reads and writes it by itself (pinned).
  ///
  /// - Parameter waits: whether the numbers are there when this returns; otherwise they are for what comes later on the device's stream.
  package func copiedToHost(waits: Bool = true) throws -> Tensor {
    try Tensor.checked("copy to the host", self) { ct_copy_to_host(handle, waits) }
  }

  public func contiguous() throws -> Tensor {
    isContiguous ? self : try Tensor.checked("contiguous", self) { ct_contiguous(handle) }
  }

  /// A copy with memory of its own.
  public func copy() throws -> Tensor {
    try Tensor.checked("clone", self) { ct_clone(handle) }
  }
}
