/// Ids to text: the decoder, and what it needs to know of each token.
struct TokenDecoding: Sendable {
  private let decoder: (any TokenDecoder)?
  /// Each token as the decoder sees it; for byte-level decoders the bytes that it stands for.
  private let tokens: [Token?]
  /// Bytes of all tokens.
  private let arena: [UInt8]
  /// Whether the text is the tokens' bytes, one after another, and nothing else.
  let isByteLevel: Bool

  /// Whether tokens like `<0xE4>` are joined into characters.
  private let fallsBackToBytes: Bool

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
    fallsBackToBytes = Self.fallsBackToBytes(decoder)
    self.decoder = decoder
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
      let spaces = Self.spaces(scalars)
      arena += isByteLevel ? ByteAlphabet.decode(scalars) ?? content : content
      tokens.append(
        Token(
          start: start, length: arena.count - start, isSpecial: addedVocabulary.isSpecial(content),
          leadingSpaces: UInt16(clamping: spaces.leading),
          trailingSpaces: UInt16(clamping: spaces.trailing)))
    }
    self.arena = arena
    self.tokens = tokens
  }

  private static func fallsBackToBytes(_ decoder: (any TokenDecoder)?) -> Bool {
    if let sequence = decoder as? DecoderSequence {
      return sequence.decoders.contains(where: fallsBackToBytes)
    }
    return decoder is ByteFallbackDecoder
  }

  /// Whether the text of a token depends on how the run of bytes that it stands in goes on: one that
  /// turns out to be no UTF-8 is replaced as a whole.
  func isOpen(_ id: Int32) -> Bool {
    fallsBackToBytes && bytes(id, false).flatMap(ByteFallbackDecoder.byte) != nil
  }

  private func token(_ id: Int32) -> Token? {
    id >= 0 && id < tokens.count ? tokens[Int(id)] : nil
  }

  /// White space at the ends of a token, `Ġ` (U+0120) included.
  func spaces(_ id: Int32) -> (leading: Int, trailing: Int) {
    token(id).map { (Int($0.leadingSpaces), Int($0.trailingSpaces)) } ?? (0, 0)
  }

  /// White space at the ends of a text, `Ġ` (U+0120) included.
  static func spaces(_ scalars: [UInt32]) -> (leading: Int, trailing: Int) {
    let properties = ScalarProperties.shared
    func isSpace(_ scalar: UInt32) -> Bool { scalar == 0x120 || properties.isWhitespace(scalar) }
    return (
      scalars.prefix(while: isSpace).count, scalars.reversed().prefix(while: isSpace).count
    )
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
