import Torch

/// The element types of the safetensors format. Raw values are the names in headers.
///
/// The order is that of the format's reference implementation, which sorts tensors by it: by rising alignment.
public enum SafetensorsType: String, Sendable, Hashable, CaseIterable {
  case bool = "BOOL"
  case float4 = "F4"
  case float6E2M3 = "F6_E2M3"
  case float6E3M2 = "F6_E3M2"
  case uint8 = "U8"
  case int8 = "I8"
  case float8E5M2 = "F8_E5M2"
  case float8E4M3 = "F8_E4M3"
  case float8E8M0 = "F8_E8M0"
  case float8E4M3FNUZ = "F8_E4M3FNUZ"
  case float8E5M2FNUZ = "F8_E5M2FNUZ"
  case int16 = "I16"
  case uint16 = "U16"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case int32 = "I32"
  case uint32 = "U32"
  case float32 = "F32"
  case complex64 = "C64"
  case float64 = "F64"
  case int64 = "I64"
  case uint64 = "U64"

  public init(_ type: DType) {
    switch type {
    case .float64: self = .float64
    case .float32: self = .float32
    case .float16: self = .float16
    case .bfloat16: self = .bfloat16
    case .float8E4M3: self = .float8E4M3
    case .float8E5M2: self = .float8E5M2
    case .int64: self = .int64
    case .int32: self = .int32
    case .int16: self = .int16
    case .int8: self = .int8
    case .uint64: self = .uint64
    case .uint32: self = .uint32
    case .uint16: self = .uint16
    case .uint8: self = .uint8
    case .bool: self = .bool
    }
  }

  /// Bits that one element takes. Types of less than a byte are packed.
  public var bitCount: Int {
    switch self {
    case .float4: 4
    case .float6E2M3, .float6E3M2: 6
    case .bool, .uint8, .int8, .float8E5M2, .float8E4M3, .float8E8M0, .float8E4M3FNUZ, .float8E5M2FNUZ: 8
    case .int16, .uint16, .float16, .bfloat16: 16
    case .int32, .uint32, .float32: 32
    case .complex64, .float64, .int64, .uint64: 64
    }
  }

  /// The engine's type of the same name, if it has one.
  public var dtype: DType? { DType(rawValue: rawValue) }

  /// How a stored tensor names this type.
  var stored: StoredType { dtype.map { .dense($0) } ?? .other(self) }

  /// Its place in the order by which the reference implementation sorts.
  var order: Int {
    Self.orders[self] ?? 0
  }

  private static let orders = Dictionary(uniqueKeysWithValues: zip(allCases, 0...))

  /// The bytes of `elementCount` elements, or nil when that overflows or does not fill whole bytes.
  func byteCount(elementCount: Int) -> Int? {
    let (bits, overflow) = elementCount.multipliedReportingOverflow(by: bitCount)
    if overflow {
      // The bits may overflow where the bytes do not.
      guard bitCount % 8 == 0 else { return nil }
      let (bytes, overflow) = elementCount.multipliedReportingOverflow(by: bitCount / 8)
      return overflow ? nil : bytes
    }
    return bits % 8 == 0 ? bits / 8 : nil
  }
}
