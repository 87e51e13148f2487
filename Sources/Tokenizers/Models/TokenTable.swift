/// A vocabulary: the bytes of each token and back, without a `String` or a `Dictionary` in between.
///
/// Tokens are compared byte by byte: Swift's `String` takes `é` as one scalar and as two for equal, and
/// vocabularies hold both.
struct TokenTable: Sendable {
  /// The bytes of all tokens, one after another.
  private let arena: [UInt8]
  /// Token id → position of its bytes in `arena`; an empty slot has `start` < 0.
  private let spans: [Span]
  /// Open addressing: token id + 1, or 0.
  private let slots: [UInt32]
  let count: Int

  private struct Span: Sendable {
    var start: Int = -1
    var length: Int = 0
  }

  /// The tokens of a vocabulary; a token that it lists twice has the last of its ids.
  init(_ vocabulary: Vocabulary) {
    var capacity = 32
    while capacity < vocabulary.ids.count * 2 { capacity *= 2 }
    var slots = [UInt32](repeating: 0, count: capacity)
    var spans = [Span](repeating: Span(), count: Int(vocabulary.ids.max() ?? -1) + 1)
    var count = 0
    vocabulary.tokens.bytes.withUnsafeBufferPointer { arena in
      for (index, id) in vocabulary.ids.enumerated() {
        let range = vocabulary.tokens.range(index)
        if spans[Int(id)].start < 0 { count += 1 }
        spans[Int(id)] = Span(start: range.lowerBound, length: range.count)
        let slot = Self.find(UnsafeBufferPointer(rebasing: arena[range]), arena, spans, slots)
        slots[slot] = UInt32(id) + 1
      }
    }
    arena = vocabulary.tokens.bytes
    self.spans = spans
    self.slots = slots
    self.count = count
  }

  /// One more than the highest id.
  var upperBound: Int { spans.count }

  /// The slot that holds the token, or the free one where it would go.
  @inline(__always)
  private static func find(
    _ token: UnsafeBufferPointer<UInt8>, _ arena: UnsafeBufferPointer<UInt8>, _ spans: [Span],
    _ slots: [UInt32]
  ) -> Int {
    let mask = slots.count - 1
    var slot = Int(truncatingIfNeeded: ByteHash.hash(token)) & mask
    while slots[slot] != 0 {
      let span = spans[Int(slots[slot]) - 1]
      if span.length == token.count,
        ByteHash.equal(token, UnsafeBufferPointer(rebasing: arena[span.start..<span.start + span.length]))
      {
        return slot
      }
      slot = (slot + 1) & mask
    }
    return slot
  }

  /// The id of a token; nil where the vocabulary does not have it.
  func id(_ token: UnsafeBufferPointer<UInt8>) -> Int32? {
    let value = arena.withUnsafeBufferPointer { slots[Self.find(token, $0, spans, slots)] }
    return value == 0 ? nil : Int32(bitPattern: value - 1)
  }

  func id(_ token: [UInt8]) -> Int32? { token.withUnsafeBufferPointer { id($0) } }

  func id(_ token: String) -> Int32? {
    var token = token
    return token.withUTF8 { id($0) }
  }

  /// The bytes of a token; nil for an id that has none.
  func bytes(_ id: Int) -> ArraySlice<UInt8>? {
    guard spans.indices.contains(id), spans[id].start >= 0 else { return nil }
    return arena[spans[id].start..<spans[id].start + spans[id].length]
  }

  func string(_ id: Int) -> String? {
    bytes(id).map { String(decoding: $0, as: UTF8.self) }
  }
}

/// Hashing and comparing short byte strings, eight bytes at a time, without a loop over single bytes: its end would
/// be guessed wrong for every other token.
enum ByteHash {
  @inline(__always)
  static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var state = UInt64(truncatingIfNeeded: bytes.count) &* 0x9E37_79B9_7F4A_7C15
    var position = 0
    while position + 8 < bytes.count {
      state = mix(state ^ load(bytes, position))
      position += 8
    }
    return mix(state ^ end(bytes))
  }

  /// Full 128-bit product, folded.
  @inline(__always)
  static func mix(_ value: UInt64) -> UInt64 {
    let product = (value ^ 0xA076_1D64_78BD_642F).multipliedFullWidth(by: 0xE703_7ED1_A0B4_28DB)
    return product.high ^ product.low
  }

  @inline(__always)
  static func equal(_ left: UnsafeBufferPointer<UInt8>, _ right: UnsafeBufferPointer<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    var position = 0
    while position + 8 < left.count {
      guard load(left, position) as UInt64 == load(right, position) else { return false }
      position += 8
    }
    return end(left) == end(right)
  }

  /// The last eight bytes; all where there are fewer, some of them twice.
  @inline(__always)
  private static func end(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
    let count = bytes.count
    if count >= 8 { return load(bytes, count - 8) }
    if count >= 4 {
      return UInt64(load(bytes, 0) as UInt32) | UInt64(load(bytes, count - 4) as UInt32) << 32
    }
    guard count > 0 else { return 0 }
    return UInt64(bytes[0]) | UInt64(bytes[count / 2]) << 8 | UInt64(bytes[count - 1]) << 16
  }

  /// Little-endian, so that hashes are the same on every machine.
  @inline(__always)
  private static func load<Word: FixedWidthInteger & BitwiseCopyable>(
    _ bytes: UnsafeBufferPointer<UInt8>, _ position: Int
  ) -> Word {
    UnsafeRawBufferPointer(bytes).loadUnaligned(fromByteOffset: position, as: Word.self).littleEndian
  }
}
