/// Writes each byte as its character of the byte-level alphabet.
struct ByteLevelNormalizer: Normalizer {
  init(_ configuration: ComponentConfiguration) {}

  func normalize(_ text: inout AlignedText) { ByteAlphabet.encode(&text) }
}
