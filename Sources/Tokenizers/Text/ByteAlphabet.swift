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

  /// The byte that a character of the alphabet stands for.
  static func byte(_ scalar: UInt32) -> UInt8? {
    guard scalar < 0x144, bytes[Int(scalar)] >= 0 else { return nil }
    return UInt8(bytes[Int(scalar)])
  }

  /// Replaces each byte by its character.
  static func encode(_ text: inout AlignedText) {
    var changes: [AlignedText.Change] = []
    changes.reserveCapacity(text.bytes.count)
    for byte in text.bytes {
      changes.append(.init(scalar: scalars[Int(byte)], change: byte & 0xC0 == 0x80 ? 1 : 0))
    }
    text.transform(changes)
  }

  /// The bytes that a token stands for; nil where a character is not of the alphabet.
  static func decode(_ token: some Sequence<UInt32>) -> [UInt8]? {
    var result: [UInt8] = []
    for scalar in token {
      guard let byte = byte(scalar) else { return nil }
      result.append(byte)
    }
    return result
  }
}
