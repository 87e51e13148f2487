/// Knows between which characters of a byte-level word no token can reach.
///
/// Every token that merging can produce is scanned once for the places where one multi-byte character
/// ends in it and the next begins; up to three bytes on either side of each place are remembered. At a
/// place in a text whose surroundings were never seen, no merge ever joins the two sides, and the word
/// may be cut without changing a token. Chinese text, whose words are whole clauses, falls apart into
/// pieces of a few characters this way.
struct MergeBoundaries: Sendable {
  /// Words up to this many bytes are looked up as they are.
  static let minimumLength = 12
  /// Bytes on either side that count: one Chinese character.
  private static let context = 3

  /// A Bloom filter with one bit for each context; a false positive only keeps two parts together.
  private let bits: [UInt64]
  /// How many bytes on the left and right the contexts in `bits` have.
  private let shapes: [(left: Int, right: Int)]
  private let shift: UInt64

  init(_ merges: MergeList) {
    var contexts: Set<UInt64> = []
    var shapes: [(left: Int, right: Int)] = []
    var token: [UInt8] = []
    for rank in 0..<merges.count {
      token.removeAll(keepingCapacity: true)
      let result = merges.left(rank).lowerBound..<merges.right(rank).upperBound
      guard ByteAlphabet.decode(merges.bytes[result], into: &token) else { continue }
      token.withUnsafeBufferPointer { bytes in
        for place in 1..<max(1, bytes.count) where Self.isPlace(bytes, place) {
          let left = min(Self.context, place)
          let right = min(Self.context, bytes.count - place)
          if !shapes.contains(where: { $0 == (left, right) }) { shapes.append((left, right)) }
          contexts.insert(Self.key(bytes, place, left, right))
        }
      }
    }
    var exponent: UInt64 = 10
    while 1 << exponent < contexts.count * 16 { exponent += 1 }
    shift = 64 - exponent
    var bits = [UInt64](repeating: 0, count: 1 << (exponent - 6))
    for context in contexts {
      let bit = context >> shift
      bits[Int(bit >> 6)] |= 1 << (bit & 63)
    }
    // The most common shape first: it decides in most cases that a place is no cut.
    self.shapes = shapes.sorted { $0.left + $0.right > $1.left + $1.right }
    self.bits = bits
  }

  /// Whether a multi-byte character ends before `place` and another one begins there.
  @inline(__always)
  private static func isPlace(_ bytes: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    bytes[place] >= 0xC0 && bytes[place - 1] >= 0x80
  }

  @inline(__always)
  private static func key(
    _ bytes: UnsafeBufferPointer<UInt8>, _ place: Int, _ left: Int, _ right: Int
  ) -> UInt64 {
    var value = UInt64(left << 2 | right)
    for index in place - left..<place + right { value = value << 8 | UInt64(bytes[index]) }
    return ByteHash.mix(value)
  }

  /// The next place behind `position` where `word` may be cut; `position` moves there.
  @inline(__always)
  func nextCut(_ word: UnsafeBufferPointer<UInt8>, _ position: inout Int) -> Int? {
    var place = position + 1
    while place < word.count {
      if Self.isPlace(word, place), !isSpanned(word, place) {
        position = place
        return place
      }
      place += 1
    }
    position = word.count
    return nil
  }

  @inline(__always)
  private func isSpanned(_ word: UnsafeBufferPointer<UInt8>, _ place: Int) -> Bool {
    for (left, right) in shapes where left <= place && right <= word.count - place {
      let bit = Self.key(word, place, left, right) >> shift
      if bits[Int(bit >> 6)] >> (bit & 63) & 1 != 0 { return true }
    }
    return false
  }
}
