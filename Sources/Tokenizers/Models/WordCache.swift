/// Words that were tokenized before, and their tokens.
///
/// One cache serves one call of `encode` at a time (see `WordCachePool`), so that looking a word up
/// takes no lock and, once the cache has grown, no allocation.
struct WordCache: Sendable {
  private struct Entry: Sendable {
    var hash: UInt64 = 0
    var keyStart: UInt32 = 0
    var keyLength: UInt16 = 0
    /// 0 marks a free entry: a word has at least one token.
    var count: UInt16 = 0
    var start: UInt32 = 0
  }

  /// Longer words are hardly ever seen twice.
  static let maximumWordLength = 48
  private static let capacity = 1 << 16

  private var entries: [Entry] = []
  private var keys: [UInt8] = []
  private var tokens: [Int32] = []
  private var count = 0

  /// Calls `body` with the tokens of a word and their lengths, which lie one after the other in
  /// `tokens`; returns false where the word is not known.
  @inline(__always)
  func appendTokens(
    of word: UnsafeBufferPointer<UInt8>, hash: UInt64, to sink: inout TokenSink
  ) -> Bool {
    guard !entries.isEmpty else { return false }
    let mask = entries.count - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while entries[slot].count != 0 {
      let entry = entries[slot]
      if entry.hash == hash, Int(entry.keyLength) == word.count,
        keys.withUnsafeBufferPointer({ keys in
          let start = Int(entry.keyStart)
          return ByteHash.equal(
            word, UnsafeBufferPointer(rebasing: keys[start..<start + word.count]))
        })
      {
        sink.append(tokens, from: Int(entry.start), count: Int(entry.count))
        return true
      }
      slot = (slot + 1) & mask
    }
    return false
  }

  /// Remembers a word's tokens and lengths; forgets everything first when it is full.
  mutating func insert(
    _ word: UnsafeBufferPointer<UInt8>, hash: UInt64, symbols: UnsafeMutableBufferPointer<Int32>,
    lengths: UnsafeMutableBufferPointer<Int32>, count tokenCount: Int
  ) {
    guard tokenCount > 0 else { return }
    if count * 4 >= entries.count * 3 { grow() }
    let mask = entries.count - 1
    var slot = Int(truncatingIfNeeded: hash) & mask
    while entries[slot].count != 0 { slot = (slot + 1) & mask }
    entries[slot] = Entry(
      hash: hash, keyStart: UInt32(keys.count), keyLength: UInt16(word.count),
      count: UInt16(tokenCount), start: UInt32(tokens.count))
    keys.append(contentsOf: word)
    for index in 0..<tokenCount { tokens.append(symbols[index]) }
    for index in 0..<tokenCount { tokens.append(lengths[index]) }
    count += 1
  }

  private mutating func grow() {
    guard entries.count < Self.capacity else {
      for slot in entries.indices { entries[slot].count = 0 }
      keys.removeAll(keepingCapacity: true)
      tokens.removeAll(keepingCapacity: true)
      count = 0
      return
    }
    let old = entries
    entries = [Entry](repeating: Entry(), count: max(1024, old.count * 2))
    let mask = entries.count - 1
    for entry in old where entry.count != 0 {
      var slot = Int(truncatingIfNeeded: entry.hash) & mask
      while entries[slot].count != 0 { slot = (slot + 1) & mask }
      entries[slot] = entry
    }
  }
}

/// Where a model puts the tokens of a word.
struct TokenSink: Sendable {
  private(set) var ids: [Int32] = []
  /// Bytes of each token in the processed text; empty unless wanted.
  private(set) var lengths: [Int32] = []
  let wantsLengths: Bool

  init(wantsLengths: Bool) { self.wantsLengths = wantsLengths }

  mutating func reserve(_ count: Int) {
    ids.reserveCapacity(count)
    if wantsLengths { lengths.reserveCapacity(count) }
  }

  @inline(__always)
  mutating func append(_ id: Int32, length: Int) {
    ids.append(id)
    if wantsLengths { lengths.append(Int32(length)) }
  }

  /// Appends `count` ids at `start`, whose lengths follow them.
  @inline(__always)
  mutating func append(_ tokens: [Int32], from start: Int, count: Int) {
    for index in start..<start + count { ids.append(tokens[index]) }
    if wantsLengths {
      for index in start + count..<start + 2 * count { lengths.append(tokens[index]) }
    }
  }

  mutating func append(
    _ symbols: UnsafeMutableBufferPointer<Int32>, _ symbolLengths: UnsafeMutableBufferPointer<Int32>,
    count: Int
  ) {
    for index in 0..<count { ids.append(symbols[index]) }
    if wantsLengths { for index in 0..<count { lengths.append(symbolLengths[index]) } }
  }
}
