/// Reading and writing scalars in buffers that are known to hold valid UTF-8.
enum UTF8Text {
  /// The scalar that starts at `position`, and its length in bytes.
  @inline(__always)
  static func scalar(
    _ bytes: UnsafeBufferPointer<UInt8>, at position: Int
  ) -> (value: UInt32, length: Int) {
    let first = UInt32(bytes[position])
    if first < 0x80 { return (first, 1) }
    if first < 0xE0 {
      return ((first & 0x1F) << 6 | UInt32(bytes[position + 1]) & 0x3F, 2)
    }
    if first < 0xF0 {
      return (
        (first & 0x0F) << 12 | (UInt32(bytes[position + 1]) & 0x3F) << 6
          | UInt32(bytes[position + 2]) & 0x3F, 3
      )
    }
    return (
      (first & 0x07) << 18 | (UInt32(bytes[position + 1]) & 0x3F) << 12
        | (UInt32(bytes[position + 2]) & 0x3F) << 6 | UInt32(bytes[position + 3]) & 0x3F, 4
    )
  }

  /// Where the scalar that ends at `position` starts.
  @inline(__always)
  static func start(_ bytes: UnsafeBufferPointer<UInt8>, before position: Int) -> Int {
    var start = position - 1
    while bytes[start] & 0xC0 == 0x80 { start -= 1 }
    return start
  }

  static func length(_ scalar: UInt32) -> Int {
    scalar < 0x80 ? 1 : scalar < 0x800 ? 2 : scalar < 0x10000 ? 3 : 4
  }

  static func append(_ scalar: UInt32, to bytes: inout [UInt8]) {
    if scalar < 0x80 {
      bytes.append(UInt8(scalar))
    } else if scalar < 0x800 {
      bytes.append(UInt8(0xC0 | scalar >> 6))
      bytes.append(UInt8(0x80 | scalar & 0x3F))
    } else if scalar < 0x10000 {
      bytes.append(UInt8(0xE0 | scalar >> 12))
      bytes.append(UInt8(0x80 | scalar >> 6 & 0x3F))
      bytes.append(UInt8(0x80 | scalar & 0x3F))
    } else {
      bytes.append(UInt8(0xF0 | scalar >> 18))
      bytes.append(UInt8(0x80 | scalar >> 12 & 0x3F))
      bytes.append(UInt8(0x80 | scalar >> 6 & 0x3F))
      bytes.append(UInt8(0x80 | scalar & 0x3F))
    }
  }

  /// The scalars of valid UTF-8.
  static func scalars(_ bytes: [UInt8]) -> [UInt32] {
    bytes.withUnsafeBufferPointer { buffer in
      var result: [UInt32] = []
      result.reserveCapacity(buffer.count)
      var position = 0
      while position < buffer.count {
        let (value, length) = scalar(buffer, at: position)
        result.append(value)
        position += length
      }
      return result
    }
  }
}

/// Decodes bytes that may not be UTF-8, piece by piece: each maximal invalid part becomes U+FFFD, as
/// in Python's `bytes.decode(errors="replace")` and Rust's `String::from_utf8_lossy`.
struct LossyUTF8Decoder: Sendable {
  /// Bytes of a sequence that has begun and may still become valid.
  private var pending: [UInt8] = []
  private static let replacement: [UInt8] = [0xEF, 0xBF, 0xBD]

  /// Decodes more bytes; the bytes of an unfinished sequence are kept for the next call.
  mutating func append(_ bytes: some Sequence<UInt8>, to output: inout [UInt8]) {
    for byte in bytes {
      if pending.isEmpty {
        begin(byte, &output)
        continue
      }
      if Self.allows(byte, after: pending) {
        pending.append(byte)
        if pending.count == Self.sequenceLength(pending[0]) {
          output += pending
          pending.removeAll(keepingCapacity: true)
        }
      } else {
        output += Self.replacement
        pending.removeAll(keepingCapacity: true)
        begin(byte, &output)
      }
    }
  }

  /// Ends the text: an unfinished sequence becomes U+FFFD.
  mutating func finish(_ output: inout [UInt8]) {
    if !pending.isEmpty { output += Self.replacement }
    pending.removeAll()
  }

  /// The whole of `bytes`, decoded.
  static func decode(_ bytes: some Collection<UInt8>) -> [UInt8] {
    var decoder = LossyUTF8Decoder()
    var output: [UInt8] = []
    output.reserveCapacity(bytes.count)
    decoder.append(bytes, to: &output)
    decoder.finish(&output)
    return output
  }

  private mutating func begin(_ byte: UInt8, _ output: inout [UInt8]) {
    if byte < 0x80 {
      output.append(byte)
    } else if Self.sequenceLength(byte) > 1 {
      pending.append(byte)
    } else {
      output += Self.replacement
    }
  }

  /// Length of the sequence that a byte begins; 0 where no sequence begins with it.
  private static func sequenceLength(_ byte: UInt8) -> Int {
    switch byte {
    case 0..<0x80: 1
    case 0xC2...0xDF: 2
    case 0xE0...0xEF: 3
    case 0xF0...0xF4: 4
    default: 0
    }
  }

  private static func allows(_ byte: UInt8, after sequence: [UInt8]) -> Bool {
    if sequence.count > 1 { return byte & 0xC0 == 0x80 }
    // The second byte excludes overlong forms, surrogates and scalars above U+10FFFF.
    switch sequence[0] {
    case 0xE0: return (0xA0...0xBF).contains(byte)
    case 0xED: return (0x80...0x9F).contains(byte)
    case 0xF0: return (0x90...0xBF).contains(byte)
    case 0xF4: return (0x80...0x8F).contains(byte)
    default: return byte & 0xC0 == 0x80
    }
  }
}
