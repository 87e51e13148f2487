/// Replaces what a pattern matches in each token.
struct ReplaceDecoder: TokenDecoder {
  private let pattern: RegularExpression
  private let content: [UInt8]

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    pattern = try configuration.pattern("pattern").expression
    content = Array(try configuration.string("content").utf8)
  }

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
    tokens.map { token in
      var text = AlignedText(token)
      text.replace(pattern, with: content)
      return text.bytes
    }
  }
}
