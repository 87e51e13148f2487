/// A vocabulary: the bytes of each token and back, without a `String` or a `Dictionary` in between.
///
/// Tokens are compared byte by byte: Swift's `String` takes `é` as one scalar and as two for equal, and
/// vocabularies hold both.
struct TokenTable: Sendable {
  /// The bytes of all tokens, one after another, in the order in which they were added.
  private var arena: [UInt8] = []
  /// Token id → position of its bytes in `arena`; an empty slot has `start` < 0.
  private var spans: [Span] = []
  /// Open addressing: token id + 1, or 0.
  private var slots: [UInt32]
  private(set) var count = 0

  private struct Span: Sendable {
    var start: Int = -1
    var length: Int = 0
  }

  init(minimumCapacity: Int = 16) {
    var capacity = 32
    while capacity < minimumCapacity * 2 { capacity *= 2 }
    slots = [UInt32](repeating: 0, count: capacity)
  }

  /// One more than the highest id.
  var upperBound: Int { spans.count }

  /// Adds a token, or gives a known token another id.
  mutating func insert(_ token: some Collection<UInt8>, id: Int) {
    if (count + 1) * 2 > slots.count { grow() }
    let start = arena.count
    arena.append(contentsOf: token)
    while spans.count <= id { spans.append(Span()) }
    if spans[id].start < 0 { count += 1 }
    spans[id] = Span(start: start, length: arena.count - start)
    insertSlot(id)
  }

  private mutating func insertSlot(_ id: Int) {
    let span = spans[id]
    let slot = arena.withUnsafeBufferPointer { arena in
      find(UnsafeBufferPointer(rebasing: arena[span.start..<span.start + span.length]), arena)
    }
    slots[slot] = UInt32(id) + 1
  }

  private mutating func grow() {
    slots = [UInt32](repeating: 0, count: slots.count * 2)
    for id in spans.indices where spans[id].start >= 0 { insertSlot(id) }
  }

  /// The slot that holds the token, or the free one where it would go.
  @inline(__always)
  private func find(
    _ token: UnsafeBufferPointer<UInt8>, _ arena: UnsafeBufferPointer<UInt8>
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
    let value = arena.withUnsafeBufferPointer { slots[find(token, $0)] }
    return value == 0 ? nil : Int32(bitPattern: value - 1)
  }

  func id(_ token: some Sequence<UInt8>) -> Int32? {
    Array(token).withUnsafeBufferPointer { id($0) }
  }

  func id(_ token: String) -> Int32? { id(token.utf8) }

  /// The bytes of a token; nil for an id that has none.
  func bytes(_ id: Int) -> ArraySlice<UInt8>? {
    guard spans.indices.contains(id), spans[id].start >= 0 else { return nil }
    return arena[spans[id].start..<spans[id].start + spans[id].length]
  }

  func string(_ id: Int) -> String? {
    bytes(id).map { String(decoding: $0, as: UTF8.self) }
  }
}

/// Hashing and comparing short byte strings, eight bytes at a time.
enum ByteHash {
  @inline(__always)
  static func hash(_ bytes: UnsafeBufferPointer<UInt8>) -> UInt64 {
    var state = UInt64(truncatingIfNeeded: bytes.count) &* 0x9E37_79B9_7F4A_7C15
    var position = 0
    while position + 8 <= bytes.count {
      state = mix(state ^ word(bytes, position))
      position += 8
    }
    if position < bytes.count {
      var tail: UInt64 = 0
      while position < bytes.count {
        tail = tail << 8 | UInt64(bytes[position])
        position += 1
      }
      state = mix(state ^ tail)
    }
    return state
  }

  /// Full 128-bit product, folded.
  @inline(__always)
  static func mix(_ value: UInt64) -> UInt64 {
    let product = (value ^ 0xA076_1D64_78BD_642F).multipliedFullWidth(by: 0xE703_7ED1_A0B4_28DB)
    return product.high ^ product.low
  }

  @inline(__always)
  private static func word(_ bytes: UnsafeBufferPointer<UInt8>, _ position: Int) -> UInt64 {
    UnsafeRawBufferPointer(bytes).loadUnaligned(fromByteOffset: position, as: UInt64.self)
  }

  @inline(__always)
  static func equal(_ left: UnsafeBufferPointer<UInt8>, _ right: UnsafeBufferPointer<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    var position = 0
    while position + 8 <= left.count {
      guard word(left, position) == word(right, position) else { return false }
      position += 8
    }
    while position < left.count {
      guard left[position] == right[position] else { return false }
      position += 1
    }
    return true
  }
}
