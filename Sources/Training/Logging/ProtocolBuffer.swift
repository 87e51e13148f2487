/// Writes the few kinds of protocol-buffer fields that TensorBoard's events need.
struct ProtocolBuffer {
  private(set) var bytes: [UInt8] = []

  /// An `int64` or enumeration.
  mutating func write(_ value: Int, field: Int) {
    write(tag: field, wireType: 0)
    write(varint: UInt64(bitPattern: Int64(value)))
  }

  /// A `double`.
  mutating func write(_ value: Double, field: Int) {
    write(tag: field, wireType: 1)
    bytes.append(contentsOf: value.bitPattern.littleEndianBytes)
  }

  /// A `float`.
  mutating func write(_ value: Float, field: Int) {
    write(tag: field, wireType: 5)
    bytes.append(contentsOf: value.bitPattern.littleEndianBytes)
  }

  /// A `string` or `bytes`.
  mutating func write(_ text: String, field: Int) { write(Array(text.utf8), field: field) }

  /// A message inside this one.
  mutating func write(field: Int, _ body: (inout ProtocolBuffer) -> Void) {
    var message = ProtocolBuffer()
    body(&message)
    write(message.bytes, field: field)
  }

  private mutating func write(_ content: [UInt8], field: Int) {
    write(tag: field, wireType: 2)
    write(varint: UInt64(content.count))
    bytes.append(contentsOf: content)
  }

  private mutating func write(tag field: Int, wireType: Int) { write(varint: UInt64(field << 3 | wireType)) }

  private mutating func write(varint value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
  }
}

extension FixedWidthInteger {
  /// The bytes from the least significant one on.
  var littleEndianBytes: [UInt8] { withUnsafeBytes(of: littleEndian) { Array($0) } }
}
