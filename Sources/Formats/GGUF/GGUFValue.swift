/// A value of a GGUF file's metadata.
public enum GGUFValue: Hashable, Sendable {
  case uint8(UInt8)
  case int8(Int8)
  case uint16(UInt16)
  case int16(Int16)
  case uint32(UInt32)
  case int32(Int32)
  case float32(Float)
  case bool(Bool)
  case string(String)
  case array(GGUFArray)
  case uint64(UInt64)
  case int64(Int64)
  case float64(Double)
}

/// An array of a GGUF file's metadata. All elements have one type.
public enum GGUFArray: Hashable, Sendable {
  case uint8([UInt8])
  case int8([Int8])
  case uint16([UInt16])
  case int16([Int16])
  case uint32([UInt32])
  case int32([Int32])
  case float32([Float])
  case bool([Bool])
  case string([String])
  case array([GGUFArray])
  case uint64([UInt64])
  case int64([Int64])
  case float64([Double])

  public var count: Int {
    switch self {
    case .uint8(let values): values.count
    case .int8(let values): values.count
    case .uint16(let values): values.count
    case .int16(let values): values.count
    case .uint32(let values): values.count
    case .int32(let values): values.count
    case .float32(let values): values.count
    case .bool(let values): values.count
    case .string(let values): values.count
    case .array(let values): values.count
    case .uint64(let values): values.count
    case .int64(let values): values.count
    case .float64(let values): values.count
    }
  }

  /// The elements, if they are integers that fit.
  public var integers: [Int]? {
    func convert(_ values: [some BinaryInteger]) -> [Int]? {
      let converted = values.compactMap { Int(exactly: $0) }
      return converted.count == values.count ? converted : nil
    }
    return switch self {
    case .uint8(let values): convert(values)
    case .int8(let values): convert(values)
    case .uint16(let values): convert(values)
    case .int16(let values): convert(values)
    case .uint32(let values): convert(values)
    case .int32(let values): convert(values)
    case .uint64(let values): convert(values)
    case .int64(let values): convert(values)
    default: nil
    }
  }

  /// The elements as numbers.
  public var numbers: [Double]? {
    switch self {
    case .float32(let values): values.map(Double.init)
    case .float64(let values): values
    default: integers?.map(Double.init)
    }
  }
}

extension GGUFValue {
  /// What kind of value this is, in the words of error messages.
  public var kind: String {
    switch self {
    case .uint8, .int8, .uint16, .int16, .uint32, .int32, .uint64, .int64: "an integer"
    case .float32, .float64: "a number"
    case .bool: "a boolean"
    case .string: "a string"
    case .array(.string): "an array of strings"
    case .array: "an array"
    }
  }

  /// The integer, if this is one that fits.
  public var integer: Int? {
    switch self {
    case .uint8(let value): Int(value)
    case .int8(let value): Int(value)
    case .uint16(let value): Int(value)
    case .int16(let value): Int(value)
    case .uint32(let value): Int(value)
    case .int32(let value): Int(value)
    case .uint64(let value): Int(exactly: value)
    case .int64(let value): Int(value)
    default: nil
    }
  }

  /// The number; also of an integer.
  public var number: Double? {
    switch self {
    case .float32(let value): Double(value)
    case .float64(let value): value
    default: integer.map(Double.init)
    }
  }

  /// A scalar as text; nil for arrays.
  var text: String? {
    switch self {
    case .string(let value): value
    case .bool(let value): value ? "true" : "false"
    case .float32(let value): "\(value)"
    case .float64(let value): "\(value)"
    case .uint64(let value): "\(value)"
    case .array: nil
    default: integer.map { "\($0)" }
    }
  }
}

/// The numbers by which GGUF files name the types of metadata.
enum GGUFType: UInt32 {
  case uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, uint64, int64, float64
}
