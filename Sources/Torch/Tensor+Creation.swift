import CTorch

extension Tensor {
  /// Elements are whatever the memory held.
  public static func empty(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws -> Tensor {
    try checked("empty\(shape)") {
      shape.withShape { ct_empty($0, $1, dtype.engineValue, device.engineValue) }
    }
  }

  public static func zeros(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws -> Tensor {
    try full(shape, 0, dtype: dtype, device: device)
  }

  public static func ones(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws -> Tensor {
    try full(shape, 1, dtype: dtype, device: device)
  }

  public static func full(
    _ shape: [Int], _ value: Double, dtype: DType = .float32, device: Device = .cpu
  ) throws -> Tensor {
    try checked("full\(shape)") {
      shape.withShape { ct_full($0, $1, value, dtype.engineValue, device.engineValue) }
    }
  }

  /// `[range.count]`: the integers of the range.
  public static func range(_ range: Range<Int>, dtype: DType = .int64, device: Device = .cpu) throws -> Tensor
  {
    try checked("range \(range)") {
      ct_arange(Int64(range.lowerBound), Int64(range.upperBound), 1, dtype.engineValue, device.engineValue)
    }
  }

  /// Drawn uniformly from `[low, high)`.
  public static func uniform(
    _ shape: [Int], low: Double = 0, high: Double = 1, dtype: DType = .float32, device: Device = .cpu
  ) throws -> Tensor {
    try checked("uniform\(shape)") {
      shape.withShape { ct_uniform($0, $1, low, high, dtype.engineValue, device.engineValue) }
    }
  }

  /// Drawn from a normal distribution.
  public static func normal(
    _ shape: [Int], mean: Double = 0, standardDeviation: Double = 1, dtype: DType = .float32,
    device: Device = .cpu
  ) throws -> Tensor {
    try checked("normal\(shape)") {
      shape.withShape { ct_normal($0, $1, mean, standardDeviation, dtype.engineValue, device.engineValue) }
    }
  }

  /// Copies contiguous elements in row-major order.
  ///
  /// - Throws: ``TorchError`` when the byte count is not that of the shape.
  public convenience init(
    copying bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType, device: Device = .cpu
  ) throws {
    let handle = shape.withShape {
      ct_from_bytes(bytes.baseAddress, bytes.count, $0, $1, dtype.engineValue, device.engineValue)
    }
    guard let handle else { throw TorchError.last("tensor\(shape)", []) }
    self.init(owning: handle)
  }

  /// A tensor over memory that `owner` keeps alive, without a copy.
  ///
  /// The memory must not be written through the tensor when it is mapped read-only.
  package convenience init(
    wrapping bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType, owner: AnyObject
  ) throws {
    let expected = shape.reduce(dtype.byteCount, *)
    guard let base = bytes.baseAddress, bytes.count == expected else {
      throw TorchError(
        operation: "tensor\(shape)",
        message: "\(dtype.torchName) elements of this shape take \(expected) bytes, not \(bytes.count)")
    }
    let context = Unmanaged.passRetained(owner)
    let handle = shape.withShape {
      ct_wrap_bytes(UnsafeMutableRawPointer(mutating: base), $0, $1, dtype.engineValue, context.toOpaque()) {
        if let owner = $0 { Unmanaged<AnyObject>.fromOpaque(owner).release() }
      }
    }
    guard let handle else {
      context.release()
      throw TorchError.last("tensor\(shape)", [])
    }
    self.init(owning: handle)
  }

  /// A tensor of `values` in row-major order; one dimension when `shape` is nil.
  public convenience init<Element: TensorElement>(
    _ values: [Element], shape: [Int]? = nil, device: Device = .cpu
  ) throws {
    let shape = shape ?? [values.count]
    let handle = values.withUnsafeBytes { bytes in
      shape.withShape {
        ct_from_bytes(
          bytes.baseAddress, bytes.count, $0, $1, Element.dtype.engineValue, device.engineValue)
      }
    }
    guard let handle else { throw TorchError.last("tensor\(shape)", []) }
    self.init(owning: handle)
  }
}

/// A Swift type whose values lie in memory as a tensor's elements do.
public protocol TensorElement: BitwiseCopyable {
  static var dtype: DType { get }
}

extension Float: TensorElement { public static var dtype: DType { .float32 } }
extension Double: TensorElement { public static var dtype: DType { .float64 } }
extension Int64: TensorElement { public static var dtype: DType { .int64 } }
extension Int32: TensorElement { public static var dtype: DType { .int32 } }
extension Int16: TensorElement { public static var dtype: DType { .int16 } }
extension Int8: TensorElement { public static var dtype: DType { .int8 } }
extension UInt8: TensorElement { public static var dtype: DType { .uint8 } }
extension Bool: TensorElement { public static var dtype: DType { .bool } }

// MARK: - Reading back

extension Tensor {
  /// The elements in row-major order, converted to `Element`'s type.
  public func array<Element: TensorElement>(of type: Element.Type) throws -> [Element] {
    let source = dtype == Element.dtype ? self : try self.to(Element.dtype)
    let total = source.count
    return try [Element](unsafeUninitializedCapacity: total) { buffer, initialized in
      try source.checkedStatus("read") {
        ct_copy_bytes(source.handle, buffer.baseAddress, total * MemoryLayout<Element>.stride)
      }
      initialized = total
    }
  }

  public func floats() throws -> [Float] { try array(of: Float.self) }
  public func doubles() throws -> [Double] { try array(of: Double.self) }
  public func integers() throws -> [Int] { try array(of: Int64.self).map(Int.init) }

  /// The only element.
  public func item() throws -> Double {
    guard count == 1 else {
      throw TorchError(operation: "item", operands: [summary], message: "it has \(count) elements, not one")
    }
    return try doubles()[0]
  }

  /// The elements' bytes in row-major order, as a safetensors file holds them.
  package func bytes() throws -> [UInt8] {
    let total = byteCount
    return try [UInt8](unsafeUninitializedCapacity: total) { buffer, initialized in
      try checkedStatus("read") { ct_copy_bytes(handle, buffer.baseAddress, total) }
      initialized = total
    }
  }
}
