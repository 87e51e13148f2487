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

  /// The merges of a list; of those that it lists twice the last counts.
  ///
  /// - Parameter continuingPrefixLength: Bytes that mark a piece inside a word: a merged token has only its left
  ///   part's.
  init(_ list: MergeList, _ tokens: TokenTable, continuingPrefixLength: Int) throws(TokenizerError) {
    var size = 16
    while size < list.count * 2 { size *= 2 }
    slots = [Merge](
      repeating: Merge(key: Self.empty, rank: Self.none, result: -1), count: size)
    let bytes = list.bytes
    for rank in 0..<list.count {
      let left = list.left(rank)
      let right = list.right(rank)
      let ids = bytes.withUnsafeBufferPointer { bytes in
        func id(_ range: Range<Int>) -> Int32? { tokens.id(UnsafeBufferPointer(rebasing: bytes[range])) }
        let result =
          continuingPrefixLength == 0
          ? id(left.lowerBound..<right.upperBound)
          : tokens.id(Array(bytes[left]) + bytes[right].dropFirst(continuingPrefixLength))
        return (left: id(left), right: id(right), result: result)
      }
      guard let leftID = ids.left, let rightID = ids.right, let result = ids.result else {
        func name(_ range: Range<Int>) -> String {
          String(decoding: bytes[range], as: UTF8.self).debugDescription
        }
        throw TokenizerError(
          .malformed,
          "Merge \(rank) of the tokenizer, \(name(left)) and \(name(right)), names a token that is not in its "
            + "vocabulary. Vocabulary and merges do not belong together; download the files again.")
      }
      insert(leftID, rightID, rank: UInt32(rank), result: result)
    }
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
  private mutating func insert(_ left: Int32, _ right: Int32, rank: UInt32, result: Int32) {
    let key = Self.key(left, right)
    let mask = slots.count - 1
    var slot = Self.start(key, mask)
    while slots[slot].key != Self.empty, slots[slot].key != key { slot = (slot + 1) & mask }
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
