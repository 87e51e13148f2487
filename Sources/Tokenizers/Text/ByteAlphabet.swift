/// The byte-level alphabet of GPT-2: a printable character for every byte, so that vocabularies of
/// bytes can be written as strings.
///
/// Source: https://github.com/openai/gpt-2/blob/master/src/encoder.py, `bytes_to_unicode`.
enum ByteAlphabet {
  /// The character of each byte.
  static let scalars: [UInt32] = {
    var result = [UInt32](repeating: 0, count: 256)
    var next: UInt32 = 0x100
    for byte in UInt32(0)..<256 {
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: result[Int(byte)] = byte
      default:
        result[Int(byte)] = next
        next += 1
      }
    }
    return result
  }()

  /// The byte of each character below U+0144; -1 for characters outside the alphabet.
  private static let bytes: [Int16] = {
    var result = [Int16](repeating: -1, count: 0x144)
    for (byte, scalar) in scalars.enumerated() { result[Int(scalar)] = Int16(byte) }
    return result
  }()

  /// Replaces each byte by its character.
  static func encode(_ text: inout AlignedText) {
    var changes: [AlignedText.Change] = []
    changes.reserveCapacity(text.bytes.count)
    for byte in text.bytes {
      changes.append(.init(scalar: scalars[Int(byte)], change: byte & 0xC0 == 0x80 ? 1 : 0))
    }
    text.transform(changes)
  }

  /// Appends the bytes that a token, as UTF-8, stands for; nothing, and false, where a character is not of the
  /// alphabet.
  static func decode(_ token: ArraySlice<UInt8>, into bytes: inout [UInt8]) -> Bool {
    let start = bytes.count
    let table = Self.bytes
    return token.withUnsafeBufferPointer { token in
      var position = 0
      while position < token.count {
        let (scalar, length) = UTF8Text.scalar(token, at: position)
        guard scalar < table.count, case let byte = table[Int(scalar)], byte >= 0 else {
          bytes.removeLast(bytes.count - start)
          return false
        }
        bytes.append(UInt8(truncatingIfNeeded: byte))
        position += length
      }
      return true
    }
  }
}
