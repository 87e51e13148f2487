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

  /// The parts of a model, however they were read.
  struct Parts {
    var vocabulary: [(token: String, id: Int)]
    var merges: [(left: String, right: String)]
    var unknownToken: String?
    var continuingPrefix = ""
    var endOfWordSuffix = ""
    var fusesUnknown = false
    var byteFallback = false
    var ignoresMerges = false
  }

  init(
    _ configuration: ComponentConfiguration, vocabulary: [(token: String, id: Int)]
  ) throws(TokenizerError) {
    if let dropout = configuration.value["dropout"]?.doubleValue, dropout != 0 {
      throw TokenizerError(
        .unsupported,
        "`\(configuration.path).dropout` of tokenizer.json is \(dropout): random merges would give other "
          + "tokens at every call. Set it to null.")
    }
    var parts = Parts(vocabulary: vocabulary, merges: [])
    parts.unknownToken = try configuration.optionalString("unk_token")
    parts.continuingPrefix = try configuration.optionalString("continuing_subword_prefix") ?? ""
    parts.endOfWordSuffix = try configuration.optionalString("end_of_word_suffix") ?? ""
    parts.fusesUnknown = try configuration.bool("fuse_unk", default: false)
    parts.byteFallback = try configuration.bool("byte_fallback", default: false)
    parts.ignoresMerges = try configuration.bool("ignore_merges", default: false)
    let items = try configuration.array("merges")
    parts.merges.reserveCapacity(items.count)
    for (index, item) in items.enumerated() {
      if case .array(let pair) = item, pair.count == 2, let left = pair[0].stringValue,
        let right = pair[1].stringValue
      {
        parts.merges.append((left, right))
      } else if case .string(let line) = item, !line.hasPrefix("#version") {
        parts.merges.append(try Self.pair(line, index))
      } else if item.stringValue == nil {
        throw configuration.wrong("merges", "an array of `\"a b\"` or `[\"a\", \"b\"]`")
      }
    }
    try self.init(parts)
  }

  /// Splits `"a b"` at its only space.
  static func pair(_ line: String, _ index: Int) throws(TokenizerError) -> (String, String) {
    let bytes = Array(line.utf8)
    guard let space = bytes.firstIndex(of: 0x20), bytes.lastIndex(of: 0x20) == space else {
      throw TokenizerError(
        .malformed,
        "Merge \(index) of the tokenizer, \(line.debugDescription), is not two tokens with one space "
          + "between them. Download the file again.")
    }
    return (
      String(decoding: bytes[..<space], as: UTF8.self),
      String(decoding: bytes[(space + 1)...], as: UTF8.self)
    )
  }

  init(_ parts: Parts) throws(TokenizerError) {
    var tokens = TokenTable(minimumCapacity: parts.vocabulary.count)
    for (token, id) in parts.vocabulary { tokens.insert(token.utf8, id: id) }

    continuingPrefix = Array(parts.continuingPrefix.utf8)
    endOfWordSuffix = Array(parts.endOfWordSuffix.utf8)
    var merges = MergeTable(capacity: parts.merges.count)
    var results: [Int32] = []
    results.reserveCapacity(parts.merges.count)
    for (rank, merge) in parts.merges.enumerated() {
      // The prefix marks a piece inside a word: the merged token has only its left part's.
      let right = merge.right.utf8.dropFirst(continuingPrefix.count)
      guard let left = tokens.id(merge.left), let rightID = tokens.id(merge.right),
        let result = tokens.id(Array(merge.left.utf8) + right)
      else {
        throw TokenizerError(
          .malformed,
          "Merge \(rank) of the tokenizer, \(merge.left.debugDescription) and "
            + "\(merge.right.debugDescription), names a token that is not in its vocabulary. "
            + "Vocabulary and merges do not belong together; download the files again.")
      }
      merges.insert(left, rightID, rank: UInt32(rank), result: result)
      results.append(result)
    }

    let bytes = ByteAlphabet.scalars.map { scalar -> Int32? in
      var character: [UInt8] = []
      UTF8Text.append(scalar, to: &character)
      return tokens.id(character)
    }
    let allBytes = bytes.compactMap { $0 }
    let isPlain = continuingPrefix.isEmpty && endOfWordSuffix.isEmpty
    byteTokens = isPlain && allBytes.count == 256 ? allBytes : nil

    if let token = parts.unknownToken {
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
    fusesUnknown = parts.fusesUnknown
    ignoresMerges = parts.ignoresMerges
    let hexadecimal = Array("0123456789ABCDEF".utf8)
    fallback =
      parts.byteFallback
      ? (0..<256).map { byte in
        tokens.id(Array("<0x".utf8) + [hexadecimal[byte >> 4], hexadecimal[byte & 15]] + [0x3E])
      } : nil
    boundaries = byteTokens == nil ? nil : MergeBoundaries(results: results, tokens: tokens)
    self.tokens = tokens
    self.merges = merges
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
