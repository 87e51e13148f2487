/// The merges of a BPE model: pair of token ids → rank and resulting id, in open addressing.
struct MergeTable: Sendable {
  struct Merge: Sendable {
    var key: UInt64
    /// Position in the list of merges: lower goes first.
    var rank: UInt32
    var result: Int32
  }

  /// Rank of a pair that does not merge.
  static let none = UInt32.max
  /// A free slot; ids are not negative, so that no pair looks like it.
  private static let empty = UInt64.max

  private var slots: [Merge]
  private(set) var count = 0

  init(capacity: Int) {
    var size = 16
    while size < capacity * 2 { size *= 2 }
    slots = [Merge](
      repeating: Merge(key: Self.empty, rank: Self.none, result: -1), count: size)
  }

  @inline(__always)
  private static func key(_ left: Int32, _ right: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
  }

  @inline(__always)
  private static func start(_ key: UInt64, _ mask: Int) -> Int {
    Int(truncatingIfNeeded: (key &* 0x9E37_79B9_7F4A_7C15) >> 32) & mask
  }

  /// Adds a merge; a pair that is already there gets the new rank.
  mutating func insert(_ left: Int32, _ right: Int32, rank: UInt32, result: Int32) {
    let key = Self.key(left, right)
    let mask = slots.count - 1
    var slot = Self.start(key, mask)
    while slots[slot].key != Self.empty, slots[slot].key != key { slot = (slot + 1) & mask }
    if slots[slot].key == Self.empty { count += 1 }
    slots[slot] = Merge(key: key, rank: rank, result: result)
  }

  func withLookup<Result>(_ body: (Lookup) -> Result) -> Result {
    slots.withUnsafeBufferPointer { body(Lookup(slots: $0)) }
  }

  /// The table while its memory is pinned.
  struct Lookup {
    fileprivate let slots: UnsafeBufferPointer<Merge>

    /// Rank and result of a pair; rank `none` where it does not merge.
    @inline(__always)
    subscript(left: Int32, right: Int32) -> (rank: UInt32, result: Int32) {
      let key = MergeTable.key(left, right)
      let mask = slots.count - 1
      var slot = MergeTable.start(key, mask)
      while true {
        let entry = slots[slot]
        if entry.key == key { return (entry.rank, entry.result) }
        if entry.key == MergeTable.empty { return (MergeTable.none, -1) }
        slot = (slot + 1) & mask
      }
    }
  }
}
