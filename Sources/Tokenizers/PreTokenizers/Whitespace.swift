/// Runs of word characters and runs of other characters (`\w+|[^\w\s]+`); white space is dropped.
struct Whitespace: PreTokenizer {
  init(_ configuration: ComponentConfiguration) {}

  func preTokenize(_ text: inout TextPieces) {
    text.split(by: Words(), .removed, invert: true)
  }

  private struct Words: TextPattern {
    private enum Kind { case space, word, other }

    func appendSpans(
      of text: UnsafeBufferPointer<UInt8>, in range: Range<Int>, to spans: inout [PatternSpan]
    ) {
      let properties = ScalarProperties.shared
      var start = range.lowerBound
      var position = start
      var current = Kind.space
      while position < range.upperBound {
        let (scalar, length) = UTF8Text.scalar(text, at: position)
        let kind: Kind =
          properties.isWord(scalar) ? .word : properties.isWhitespace(scalar) ? .space : .other
        if kind != current, start < position {
          spans.append(PatternSpan(start: start, end: position, isMatch: current != .space))
          start = position
        }
        current = kind
        position += length
      }
      if start < position {
        spans.append(PatternSpan(start: start, end: position, isMatch: current != .space))
      }
    }
  }
}

/// Splits at white space, which is dropped.
struct WhitespaceSplit: PreTokenizer {
  init(_ configuration: ComponentConfiguration) {}

  func preTokenize(_ text: inout TextPieces) {
    let properties = ScalarProperties.shared
    text.split(by: ScalarPattern { properties.isWhitespace($0) }, .removed)
  }
}
