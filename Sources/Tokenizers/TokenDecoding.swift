/// Ids to text: the decoder, and what it needs to know of each token.
struct TokenDecoding: Sendable {
  private let decoder: (any TokenDecoder)?
  /// Each token as the decoder sees it; for byte-level decoders the bytes that it stands for.
  private let tokens: [Token?]
  /// Bytes of all tokens.
  private let arena: [UInt8]
  /// Whether the text is the tokens' bytes, one after another, and nothing else.
  let isByteLevel: Bool

  private struct Token: Sendable {
    let start: Int
    let length: Int
    let isSpecial: Bool
    let leadingSpaces: UInt16
    let trailingSpaces: UInt16
  }

  init(decoder: (any TokenDecoder)?, model: any TokenizerModel, addedVocabulary: AddedVocabulary) {
    var decoder = decoder
    while let sequence = decoder as? DecoderSequence, sequence.decoders.count == 1 {
      decoder = sequence.decoders[0]
    }
    isByteLevel = decoder is ByteLevelDecoder
    self.decoder = decoder
    let properties = ScalarProperties.shared
    var arena: [UInt8] = []
    var tokens: [Token?] = []
    let upperBound = max(
      model.tokens.upperBound, Int(addedVocabulary.tokens.keys.max() ?? -1) + 1)
    tokens.reserveCapacity(upperBound)
    for id in 0..<upperBound {
      guard
        let content = addedVocabulary.decodedContent(Int32(id)) ?? model.tokens.bytes(id).map(Array.init)
      else {
        tokens.append(nil)
        continue
      }
      let start = arena.count
      let scalars = UTF8Text.scalars(content)
      let isSpace = { (scalar: UInt32) in scalar == 0x120 || properties.isWhitespace(scalar) }
      arena += isByteLevel ? ByteAlphabet.decode(scalars) ?? content : content
      tokens.append(
        Token(
          start: start, length: arena.count - start, isSpecial: addedVocabulary.isSpecial(content),
          leadingSpaces: UInt16(clamping: scalars.prefix(while: isSpace).count),
          trailingSpaces: UInt16(clamping: scalars.reversed().prefix(while: isSpace).count)))
    }
    self.arena = arena
    self.tokens = tokens
  }

  private func token(_ id: Int32) -> Token? {
    id >= 0 && id < tokens.count ? tokens[Int(id)] : nil
  }

  /// White space at the ends of a token, `Ġ` (U+0120) included.
  func spaces(_ id: Int32) -> (leading: Int, trailing: Int) {
    token(id).map { (Int($0.leadingSpaces), Int($0.trailingSpaces)) } ?? (0, 0)
  }

  /// What a token contributes; nil for ids without a token, and for special ones that are skipped.
  func bytes(_ id: Int32, _ skipSpecialTokens: Bool) -> ArraySlice<UInt8>? {
    guard let token = token(id), !(skipSpecialTokens && token.isSpecial) else { return nil }
    return arena[token.start..<token.start + token.length]
  }

  /// The text of tokens, as UTF-8.
  func decode(_ ids: some Collection<Int32>, _ skipSpecialTokens: Bool) -> [UInt8] {
    if isByteLevel {
      var bytes: [UInt8] = []
      bytes.reserveCapacity(ids.count * 4)
      for id in ids {
        if let token = self.bytes(id, skipSpecialTokens) { bytes += token }
      }
      return LossyUTF8Decoder.decode(bytes)
    }
    let tokens = ids.compactMap { bytes($0, skipSpecialTokens).map(Array.init) }
    // Without a decoder nobody knows where words end; the reference puts spaces between tokens.
    guard let decoder else { return Array(tokens.joined(separator: [0x20])) }
    return Array(decoder.decode(tokens).joined())
  }
}
