/// Takes leading and trailing white space out of the offsets of tokens.
struct ByteLevelPostProcessor: PostProcessor {
  private let trimsOffsets: Bool
  private let addsPrefixSpace: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    trimsOffsets = try configuration.bool("trim_offsets")
    addsPrefixSpace = try configuration.bool("add_prefix_space")
  }

  func process(_ encodings: [Encoding], addSpecialTokens: Bool) -> [Encoding] {
    guard trimsOffsets else { return encodings }
    return encodings.map { encoding in
      var encoding = encoding
      encoding.trimSpace(addsPrefixSpace: addsPrefixSpace)
      return encoding
    }
  }

  var affixes: (before: [Int32], behind: [Int32]) { ([], []) }
}

extension Encoding {
  /// Narrows each token's offsets by the white space at the ends of the token. The space that the
  /// pre-tokenizer put before the first word was never part of the text and is not taken off it.
  ///
  /// White space is counted in characters and taken off in characters of the text: a space that
  /// was put before a Chinese word has that word's first character as its place.
  mutating func trimSpace(addsPrefixSpace: Bool) {
    source.withUnsafeBufferPointer { source in
      for index in ids.indices {
        var (leading, trailing) = spaces[index]
        var (start, end) = (offsets[index].lowerBound, offsets[index].upperBound)
        if leading > 0 {
          if index == 0 || start == 0, addsPrefixSpace, leading == 1 { leading = 0 }
          while leading > 0, start < end {
            start += UTF8Text.scalar(source, at: start).length
            leading -= 1
          }
        }
        // Only where that many characters stand before the end of the token.
        var trimmed = end
        while trailing > 0, trimmed > 0 {
          trimmed = UTF8Text.start(source, before: trimmed)
          trailing -= 1
        }
        if trailing == 0 { end = max(trimmed, start) }
        offsets[index] = start..<end
      }
    }
  }
}
