import JSON

/// Byte-pair encoding: a word starts as characters (or bytes), and the pair of neighbours with the
/// lowest rank merges until no pair is left that does.
///
/// Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units",
/// https://arxiv.org/abs/1508.07909. Dropout, a training device, is refused unless it is 0.
struct BPE: TokenizerModel {
  static let type = "BPE"

  let tokens: TokenTable
  private let merges: MergeTable
  private let unknown: Int32?
  private let fusesUnknown: Bool
  private let ignoresMerges: Bool
  private let continuingPrefix: [UInt8]
  private let endOfWordSuffix: [UInt8]
  /// `<0x00>` … `<0xFF>`, where unknown characters fall back to them and the vocabulary has the token.
  private let fallback: [Int32?]?
  /// The token of each byte's character in the byte-level alphabet; nil unless all 256 exist.
  private let byteTokens: [Int32]?
  private let boundaries: MergeBoundaries?

  init(_ configuration: ComponentConfiguration, _ lists: ModelLists) throws(TokenizerError) {
    guard let vocabulary = try lists.vocabulary?.get() else {
      throw configuration.wrong("vocab", "an object of tokens and ids")
    }
    if let dropout = configuration.value["dropout"]?.doubleValue, dropout != 0 {
      throw TokenizerError(
        .unsupported,
        "`\(configuration.path).dropout` of tokenizer.json is \(dropout): random merges would give other "
          + "tokens at every call. Set it to null.")
    }
    let unknownToken = try configuration.optionalString("unk_token")
    continuingPrefix = Array((try configuration.optionalString("continuing_subword_prefix") ?? "").utf8)
    endOfWordSuffix = Array((try configuration.optionalString("end_of_word_suffix") ?? "").utf8)
    fusesUnknown = try configuration.bool("fuse_unk", default: false)
    let fallsBackToBytes = try configuration.bool("byte_fallback", default: false)
    ignoresMerges = try configuration.bool("ignore_merges", default: false)
    guard let list = try lists.merges?.get() else { throw configuration.wrong("merges", "an array") }

    let tokens = TokenTable(vocabulary)
    merges = try MergeTable(list, tokens, continuingPrefixLength: continuingPrefix.count)

    let bytes = ByteAlphabet.scalars.map { scalar -> Int32? in
      var character: [UInt8] = []
      UTF8Text.append(scalar, to: &character)
      return tokens.id(character)
    }
    let allBytes = bytes.compactMap { $0 }
    let isPlain = continuingPrefix.isEmpty && endOfWordSuffix.isEmpty
    byteTokens = isPlain && allBytes.count == 256 ? allBytes : nil

    if let token = unknownToken {
      unknown = tokens.id(token)
      // With a token for every byte nothing is ever unknown, and files name tokens carelessly.
      guard unknown != nil || byteTokens != nil else {
        throw TokenizerError(
          .malformed,
          "The unknown token \(token.debugDescription) is not in the tokenizer's vocabulary. Correct "
            + "`model.unk_token` in tokenizer.json.")
      }
    } else {
      unknown = nil
    }
    let hexadecimal = Array("0123456789ABCDEF".utf8)
    fallback =
      fallsBackToBytes
      ? (0..<256).map { byte in
        tokens.id(Array("<0x".utf8) + [hexadecimal[byte >> 4], hexadecimal[byte & 15]] + [0x3E])
      } : nil
    boundaries = byteTokens == nil ? nil : MergeBoundaries(list)
    self.tokens = tokens
  }

  var acceptsBytes: Bool { byteTokens != nil }

  func tokenize(
    _ word: UnsafeBufferPointer<UInt8>, isByteLevel: Bool, cache: inout WordCache,
    into sink: inout TokenSink
  ) {
    guard !word.isEmpty else { return }
    if ignoresMerges, let id = wholeWord(word, isByteLevel) {
      sink.append(id, length: word.count)
      return
    }
    guard isByteLevel, let byteTokens else {
      tokenizeText(word, &cache, &sink)
      return
    }
    guard let boundaries, word.count > MergeBoundaries.minimumLength else {
      tokenizeBytes(word, byteTokens, &cache, &sink)
      return
    }
    // Where no token can span two characters, the parts are words of their own, and shorter words
    // are known more often.
    var start = 0
    var position = 0
    while let cut = boundaries.nextCut(word, &position) {
      tokenizeBytes(UnsafeBufferPointer(rebasing: word[start..<cut]), byteTokens, &cache, &sink)
      start = cut
    }
    tokenizeBytes(UnsafeBufferPointer(rebasing: word[start...]), byteTokens, &cache, &sink)
  }

  private func wholeWord(_ word: UnsafeBufferPointer<UInt8>, _ isByteLevel: Bool) -> Int32? {
    guard isByteLevel else { return tokens.id(word) }
    // A character of the alphabet takes two bytes at most.
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: word.count * 2) { buffer in
      var count = 0
      for byte in word {
        let scalar = ByteAlphabet.scalars[Int(byte)]
        if scalar < 0x80 {
          buffer[count] = UInt8(scalar)
          count += 1
        } else {
          buffer[count] = UInt8(0xC0 | scalar >> 6)
          buffer[count + 1] = UInt8(0x80 | scalar & 0x3F)
          count += 2
        }
      }
      return tokens.id(UnsafeBufferPointer(rebasing: buffer[..<count]))
    }
  }

  private func tokenizeBytes(
    _ word: UnsafeBufferPointer<UInt8>, _ byteTokens: [Int32], _ cache: inout WordCache,
    _ sink: inout TokenSink
  ) {
    tokenizeCached(word, &cache, &sink, capacity: word.count) { symbols, lengths in
      for index in 0..<word.count {
        symbols[index] = byteTokens[Int(word[index])]
        lengths[index] = 1
      }
      return word.count
    }
  }

  private func tokenizeText(
    _ word: UnsafeBufferPointer<UInt8>, _ cache: inout WordCache, _ sink: inout TokenSink
  ) {
    // Byte fallback takes as many symbols as there are bytes, of prefix and suffix too.
    let affixes = continuingPrefix.count * word.count + endOfWordSuffix.count
    tokenizeCached(word, &cache, &sink, capacity: word.count + affixes) { symbols, lengths in
      characters(of: word, symbols, lengths)
    }
  }

  /// Looks a word up, or merges the symbols that `fill` starts it with.
  @inline(__always)
  private func tokenizeCached(
    _ word: UnsafeBufferPointer<UInt8>, _ cache: inout WordCache, _ sink: inout TokenSink,
    capacity: Int,
    fill: (UnsafeMutableBufferPointer<Int32>, UnsafeMutableBufferPointer<Int32>) -> Int
  ) {
    let isCacheable = word.count <= WordCache.maximumWordLength
    let hash = isCacheable ? ByteHash.hash(word) : 0
    if isCacheable, cache.appendTokens(of: word, hash: hash, to: &sink) { return }
    withUnsafeTemporaryAllocation(of: Int32.self, capacity: capacity) { symbols in
      withUnsafeTemporaryAllocation(of: Int32.self, capacity: capacity) { lengths in
        let count = fill(symbols, lengths)
        let kept = merges.withLookup { merges in
          SymbolMerger.merge(
            UnsafeMutableBufferPointer(rebasing: symbols[..<count]),
            lengths: UnsafeMutableBufferPointer(rebasing: lengths[..<count]), merges)
        }
        sink.append(symbols, lengths, count: kept)
        if isCacheable {
          cache.insert(word, hash: hash, symbols: symbols, lengths: lengths, count: kept)
        }
      }
    }
  }

  /// The symbols that a word of text starts with: its characters, unknown ones replaced.
  private func characters(
    of word: UnsafeBufferPointer<UInt8>, _ symbols: UnsafeMutableBufferPointer<Int32>,
    _ lengths: UnsafeMutableBufferPointer<Int32>
  ) -> Int {
    var count = 0
    func add(_ id: Int32, _ length: Int) {
      symbols[count] = id
      lengths[count] = Int32(length)
      count += 1
    }
    var unknownLength = 0
    var position = 0
    var affixed: [UInt8] = []
    while position < word.count {
      let length = UTF8Text.scalar(word, at: position).length
      let isLast = position + length == word.count
      let plain = UnsafeBufferPointer(rebasing: word[position..<position + length])
      let hasPrefix = position > 0 && !continuingPrefix.isEmpty
      let hasSuffix = isLast && !endOfWordSuffix.isEmpty
      position += length
      let id: Int32?
      if hasPrefix || hasSuffix {
        affixed.removeAll(keepingCapacity: true)
        if hasPrefix { affixed += continuingPrefix }
        affixed += plain
        if hasSuffix { affixed += endOfWordSuffix }
        id = affixed.withUnsafeBufferPointer { tokens.id($0) }
      } else {
        id = tokens.id(plain)
      }
      if let id {
        if unknownLength > 0, let unknown { add(unknown, unknownLength) }
        unknownLength = 0
        add(id, length)
        continue
      }
      if let fallback {
        let bytes = hasPrefix || hasSuffix ? affixed : Array(plain)
        let ids = bytes.compactMap { fallback[Int($0)] }
        if ids.count == bytes.count {
          // As the reference does it, an unknown token before is put out only after these.
          for id in ids { add(id, 1) }
          continue
        }
      }
      guard let unknown else { continue }
      if unknownLength > 0, !fusesUnknown {
        add(unknown, unknownLength)
        unknownLength = 0
      }
      unknownLength += length
    }
    if unknownLength > 0, let unknown { add(unknown, unknownLength) }
    return count
  }
}
