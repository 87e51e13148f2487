/// Turns characters of the byte-level alphabet back into bytes, and the bytes of all tokens into text.
struct ByteLevelDecoder: TokenDecoder {
  init(_ configuration: ComponentConfiguration) {}

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
    [LossyUTF8Decoder.decode(Array(tokens.map(Self.bytes).joined()))]
  }

  /// The bytes that a token stands for: a token with a character outside the alphabet, such as an
  /// added token with a space in it, stands for itself.
  static func bytes(_ token: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    return ByteAlphabet.decode(token[...], into: &bytes) ? bytes : token
  }
}
