/// Ids to text: the decoder, and what it needs to know of each token.
struct TokenDecoding: Sendable {
  private let decoder: (any TokenDecoder)?
  private let tokens: TokenTable
  private let addedVocabulary: AddedVocabulary
  /// Whether the text is the tokens' bytes, one after another, and nothing else.
  let isByteLevel: Bool
  /// Whether tokens like `<0xE4>` are joined into characters.
  private let fallsBackToBytes: Bool

  init(decoder: (any TokenDecoder)?, model: any TokenizerModel, addedVocabulary: AddedVocabulary) {
    var decoder = decoder
    while let sequence = decoder as? DecoderSequence, sequence.decoders.count == 1 {
      decoder = sequence.decoders[0]
    }
    isByteLevel = decoder is ByteLevelDecoder
    fallsBackToBytes = Self.fallsBackToBytes(decoder)
    self.decoder = decoder
    tokens = model.tokens
    self.addedVocabulary = addedVocabulary
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

  /// A token as the vocabulary writes it; nil for ids without a token.
  private func content(_ id: Int32) -> ArraySlice<UInt8>? {
    addedVocabulary.decodedContent(id).map { $0[...] } ?? tokens.bytes(Int(id))
  }

  /// White space at the ends of a token, `Ġ` (U+0120) included.
  func spaces(_ id: Int32) -> (leading: Int, trailing: Int) { content(id).map(Self.spaces) ?? (0, 0) }

  /// White space at the ends of a text, `Ġ` (U+0120) included.
  static func spaces(_ text: ArraySlice<UInt8>) -> (leading: Int, trailing: Int) {
    let properties = ScalarProperties.shared
    return text.withUnsafeBufferPointer { text in
      func isSpace(_ position: Int) -> Bool {
        let scalar = UTF8Text.scalar(text, at: position).value
        return scalar == 0x120 || properties.isWhitespace(scalar)
      }
      var (leading, start) = (0, 0)
      while start < text.count, isSpace(start) {
        leading += 1
        start += UTF8Text.scalar(text, at: start).length
      }
      var (trailing, end) = (0, text.count)
      while end > 0, case let last = UTF8Text.start(text, before: end), isSpace(last) {
        trailing += 1
        end = last
      }
      return (leading, trailing)
    }
  }

  /// What a token contributes; nil for ids without a token, and for special ones that are skipped.
  func bytes(_ id: Int32, _ skipSpecialTokens: Bool) -> [UInt8]? {
    var bytes: [UInt8] = []
    return append(id, skipSpecialTokens, to: &bytes) ? bytes : nil
  }

  /// Appends what a token contributes: the token as the decoder sees it, or for byte-level decoders the bytes that
  /// it stands for; nothing, and false, for ids without a token, and for special ones that are skipped.
  private func append(_ id: Int32, _ skipSpecialTokens: Bool, to bytes: inout [UInt8]) -> Bool {
    guard let content = content(id), !(skipSpecialTokens && addedVocabulary.isSpecial(content)) else {
      return false
    }
    // A token with a character outside the alphabet, such as an added token with a space, stands for itself.
    if !isByteLevel || !ByteAlphabet.decode(content, into: &bytes) { bytes += content }
    return true
  }

  /// The text of tokens, as UTF-8.
  func decode(_ ids: some Collection<Int32>, _ skipSpecialTokens: Bool) -> [UInt8] {
    if isByteLevel {
      var bytes: [UInt8] = []
      bytes.reserveCapacity(ids.count * 4)
      for id in ids { _ = append(id, skipSpecialTokens, to: &bytes) }
      return LossyUTF8Decoder.decode(bytes)
    }
    let tokens = ids.compactMap { bytes($0, skipSpecialTokens) }
    // Without a decoder nobody knows where words end; the reference puts spaces between tokens.
    guard let decoder else { return Array(tokens.joined(separator: [0x20])) }
    return Array(decoder.decode(tokens).joined())
  }
}
