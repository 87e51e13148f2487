/// Replaces what a pattern matches.
struct Replace: Normalizer {
  private let pattern: RegularExpression
  private let content: [UInt8]

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    pattern = try configuration.pattern("pattern").expression
    content = Array(try configuration.string("content").utf8)
  }

  func normalize(_ text: inout AlignedText) { text.replace(pattern, with: content) }
}
