/// Joins tokens like `<0xE4>` into characters; bytes that form none become U+FFFD each.
struct ByteFallbackDecoder: TokenDecoder {
  init(_ configuration: ComponentConfiguration) {}

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
    var result: [[UInt8]] = []
    var bytes: [UInt8] = []
    func flush() {
      guard !bytes.isEmpty else { return }
      if String(validating: bytes, as: UTF8.self) != nil {
        result.append(bytes)
      } else {
        for _ in bytes { result.append([0xEF, 0xBF, 0xBD]) }
      }
      bytes = []
    }
    for token in tokens {
      if let byte = Self.byte(token) {
        bytes.append(byte)
      } else {
        flush()
        result.append(token)
      }
    }
    flush()
    return result
  }

  /// The byte of a token of the form `<0xE4>`.
  static func byte(_ token: some Collection<UInt8>) -> UInt8? {
    let token = Array(token)
    guard token.count == 6, token.starts(with: Array("<0x".utf8)), token[5] == 0x3E else { return nil }
    let digits = token[3..<5].map { Character(Unicode.Scalar($0)).hexDigitValue }
    guard let high = digits[0], let low = digits[1] else { return nil }
    return UInt8(high << 4 | low)
  }
}
