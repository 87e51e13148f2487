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
  mutating func trimSpace(addsPrefixSpace: Bool) {
    for index in ids.indices {
      var (leading, trailing) = spaces[index]
      guard leading > 0 || trailing > 0 else { continue }
      var (start, end) = (offsets[index].lowerBound, offsets[index].upperBound)
      if leading > 0 {
        if index == 0 || start == 0, addsPrefixSpace, leading == 1 { leading = 0 }
        start = min(start + leading, end)
      }
      if trailing > 0, end >= trailing { end = max(end - trailing, start) }
      trailing = 0
      offsets[index] = start..<end
    }
  }
}
