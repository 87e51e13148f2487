import CTorch

/// A multi-dimensional array of libtorch, freed when Swift lets go of the last reference.
///
/// A tensor is a reference: two variables may name the same elements, and views share memory. Operations never
/// change their operands unless their name says `InPlace`. Everything that the engine can refuse throws
/// ``TorchError`` with the operation and the shapes.
///
/// Tensors are not `Sendable`: background tasks work on plain arrays, and the engine uses all cores by itself.
public final class Tensor {
  package let handle: OpaquePointer

  /// Takes over a reference that the C interface handed out.
  package init(owning handle: OpaquePointer) {
    self.handle = handle
  }

  deinit { ct_release(handle) }
}

// MARK: - Inspection

extension Tensor {
  public var rank: Int { Int(ct_dimension_count(handle)) }

  /// Element counts, outermost first.
  public var shape: [Int] { (0..<rank).map { Int(ct_size(handle, Int64($0))) } }

  /// Distances between neighbours along each dimension, in elements.
  public var strides: [Int] { (0..<rank).map { Int(ct_stride(handle, Int64($0))) } }

  public var count: Int { Int(ct_element_count(handle)) }
  public var dtype: DType { DType(engineValue: ct_dtype(handle)) }
  public var device: Device { Device(engineValue: ct_device(handle)) }
  public var isContiguous: Bool { ct_is_contiguous(handle) }
  /// Grows with every change of the elements in place, through whichever view.
  package var version: Int { Int(ct_version(handle)) }

  /// Bytes that the elements take, without sharing counted.
  public var byteCount: Int { count * dtype.byteCount }

  /// The element count along `dimension`; negative counts from the end.
  public func size(_ dimension: Int) -> Int {
    let index = dimension < 0 ? dimension + rank : dimension
    precondition((0..<rank).contains(index), "dimension \(dimension) of a tensor of rank \(rank)")
    return Int(ct_size(handle, Int64(index)))
  }

  /// Whether both are views of the same memory.
  public func sharesMemory(with other: Tensor) -> Bool {
    guard let own = ct_storage(handle), let others = ct_storage(other.handle) else { return false }
    return own == others
  }

  /// Address of the first element in host memory; nil on other devices.
  package var hostPointer: UnsafeMutableRawPointer? {
    device.kind == .cpu ? ct_data(handle) : nil
  }

  /// `[512, 576] bfloat16 cpu`, for messages.
  package var summary: String { "\(shape) \(dtype.torchName) \(device)" }
}

extension Tensor: CustomStringConvertible {
  public var description: String {
    guard count <= 64, device.kind != .meta, let values = try? doubles() else { return "Tensor(\(summary))" }
    return "Tensor(\(values), \(summary))"
  }
}

// MARK: - Calling the engine

extension Tensor {
  static func checked(
    _ operation: String, _ operands: Tensor..., body: () -> OpaquePointer?
  ) throws -> Tensor {
    guard let result = body() else { throw TorchError.last(operation, operands) }
    return Tensor(owning: result)
  }

  func checkedStatus(_ operation: String, _ operands: Tensor..., body: () -> Int32) throws {
    guard body() == 0 else { throw TorchError.last(operation, [self] + operands) }
  }

  static func withHandles<Result>(
    _ tensors: [Tensor], _ body: (UnsafePointer<OpaquePointer>, Int32) throws -> Result
  ) rethrows -> Result {
    let handles = tensors.map(\.handle)
    return try withExtendedLifetime(tensors) {
      try handles.withUnsafeBufferPointer { buffer in
        // An empty array has no address; the engine reads nothing then.
        var none = UnsafeRawPointer(bitPattern: 8)!.assumingMemoryBound(to: OpaquePointer.self)
        if let base = buffer.baseAddress { none = base }
        return try body(none, Int32(buffer.count))
      }
    }
  }
}

extension [Int] {
  func withShape<Result>(_ body: (UnsafePointer<Int64>, Int32) throws -> Result) rethrows -> Result {
    // One spare element: a scalar's shape is empty, and an empty array has no address.
    try (map(Int64.init) + [0]).withUnsafeBufferPointer { try body($0.baseAddress!, Int32(count)) }
  }
}

extension DType {
  var engineValue: CTDType {
    switch self {
    case .float64: CT_FLOAT64
    case .float32: CT_FLOAT32
    case .float16: CT_FLOAT16
    case .bfloat16: CT_BFLOAT16
    case .float8E4M3: CT_FLOAT8_E4M3
    case .float8E5M2: CT_FLOAT8_E5M2
    case .int64: CT_INT64
    case .int32: CT_INT32
    case .int16: CT_INT16
    case .int8: CT_INT8
    case .uint64: CT_UINT64
    case .uint32: CT_UINT32
    case .uint16: CT_UINT16
    case .uint8: CT_UINT8
    case .bool: CT_BOOL
    }
  }

  init(engineValue: CTDType) {
    guard let match = DType.allCases.first(where: { $0.engineValue == engineValue }) else {
      preconditionFailure("the engine gave a tensor of type \(engineValue.rawValue), which Graft never makes")
    }
    self = match
  }
}
