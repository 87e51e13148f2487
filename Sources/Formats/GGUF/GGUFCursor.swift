import Foundation

/// Reads a GGUF file's header from front to back.
///
/// Every count is checked against the bytes that are left *before* anything is allocated for it, so a header that claims
/// 2^60 items fails at once.
struct GGUFCursor {
  let bytes: ByteView
  let url: URL
  private(set) var position = 0

  /// Nesting of arrays beyond which a file is refused. Real files do not nest at all.
  private static let maximumDepth = 8

  init(_ bytes: ByteView, url: URL) {
    self.bytes = bytes
    self.url = url
  }

  var remaining: Int { bytes.count - position }

  mutating func integer<T: FixedWidthInteger>(_ type: T.Type = T.self) throws -> T {
    guard let value = bytes.load(T.self, at: position) else { throw truncated() }
    position += MemoryLayout<T>.size
    return value
  }

  /// A count of items that take at least `minimumSize` bytes each.
  mutating func count(of what: String, minimumSize: Int) throws -> Int {
    let claimed: UInt64 = try integer()
    guard claimed <= UInt64(remaining / minimumSize) else {
      throw FormatError.malformed(
        url,
        "the header claims \(claimed) \(what) at byte \(position - 8), but only \(remaining) bytes are left")
    }
    return Int(claimed)
  }

  mutating func string(_ what: String) throws -> String {
    let count = try count(of: "bytes of \(what)", minimumSize: 1)
    let start = position
    guard let view = bytes.slice(at: position, count: count) else { throw truncated() }
    position += count
    guard
      let text = view.withUnsafeBytes({ String(validating: $0.bindMemory(to: UInt8.self), as: UTF8.self) })
    else {
      throw FormatError.malformed(url, "\(what) at byte \(start) is not UTF-8")
    }
    return text
  }

  mutating func value(type: UInt32, of key: String) throws -> GGUFValue {
    switch GGUFType(rawValue: type) {
    case .uint8: .uint8(try integer())
    case .int8: .int8(try integer())
    case .uint16: .uint16(try integer())
    case .int16: .int16(try integer())
    case .uint32: .uint32(try integer())
    case .int32: .int32(try integer())
    case .float32: .float32(Float(bitPattern: try integer()))
    case .bool: .bool(try bool(of: key))
    case .string: .string(try string("the value of \(quoted(key))"))
    case .array: .array(try array(of: key, depth: 1))
    case .uint64: .uint64(try integer())
    case .int64: .int64(try integer())
    case .float64: .float64(Double(bitPattern: try integer()))
    case nil: throw unknown(type, key)
    }
  }

  private mutating func array(of key: String, depth: Int) throws -> GGUFArray {
    guard depth <= Self.maximumDepth else {
      throw FormatError.malformed(
        url, "the metadata \(quoted(key)) nests arrays more than \(Self.maximumDepth) deep")
    }
    let type: UInt32 = try integer()
    switch GGUFType(rawValue: type) {
    case .uint8: return .uint8(try integers(of: key))
    case .int8: return .int8(try integers(of: key))
    case .uint16: return .uint16(try integers(of: key))
    case .int16: return .int16(try integers(of: key))
    case .uint32: return .uint32(try integers(of: key))
    case .int32: return .int32(try integers(of: key))
    case .float32: return .float32(try integers(of: key).map { Float(bitPattern: $0) })
    case .bool: return .bool(try elements(of: key, minimumSize: 1) { cursor in try cursor.bool(of: key) })
    case .string:
      let what = "an element of \(quoted(key))"
      return .string(try elements(of: key, minimumSize: 8) { cursor in try cursor.string(what) })
    case .array:
      return .array(
        try elements(of: key, minimumSize: 12) { cursor in try cursor.array(of: key, depth: depth + 1) })
    case .uint64: return .uint64(try integers(of: key))
    case .int64: return .int64(try integers(of: key))
    case .float64: return .float64(try integers(of: key).map { Double(bitPattern: $0) })
    case nil: throw unknown(type, key)
    }
  }

  private mutating func integers<T: FixedWidthInteger>(of key: String) throws -> [T] {
    try elements(of: key, minimumSize: MemoryLayout<T>.size) { cursor in try cursor.integer() }
  }

  private mutating func elements<T>(
    of key: String, minimumSize: Int, _ read: (inout GGUFCursor) throws -> T
  ) throws -> [T] {
    let count = try count(of: "elements of \(quoted(key))", minimumSize: minimumSize)
    var elements: [T] = []
    elements.reserveCapacity(count)
    for _ in 0..<count { elements.append(try read(&self)) }
    return elements
  }

  private mutating func bool(of key: String) throws -> Bool {
    let byte: UInt8 = try integer()
    guard byte <= 1 else {
      throw FormatError.malformed(
        url, "the metadata \(quoted(key)) holds the byte \(byte) where a boolean should be")
    }
    return byte == 1
  }

  private func unknown(_ type: UInt32, _ key: String) -> FormatError {
    .malformed(url, "the metadata \(quoted(key)) has the unknown type \(type)")
  }

  private func truncated() -> FormatError {
    .malformed(url, "the file ends within its header, after \(bytes.count) bytes")
  }
}
