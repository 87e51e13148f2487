/// Writes the suffix that marks the end of a word as a space; nothing behind the last word.
struct EndOfWordDecoder: TokenDecoder {
  private let suffix: RegularExpression
  private let isEmpty: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    let suffix = try configuration.string("suffix")
    self.suffix = RegularExpression(literal: suffix)
    isEmpty = suffix.isEmpty
  }

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
    guard !isEmpty else { return tokens }
    return tokens.enumerated().map { index, token in
      var text = AlignedText(token)
      text.replace(suffix, with: index + 1 < tokens.count ? [0x20] : [])
      return text.bytes
    }
  }
}
