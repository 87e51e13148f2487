/// A set of Unicode scalars as sorted, disjoint ranges: the form in which character classes are
/// combined while a pattern is compiled.
struct ScalarSet: Equatable, Sendable {
  /// Inclusive bounds, ascending, neither overlapping nor adjacent.
  private(set) var ranges: [ClosedRange<UInt32>]

  init(_ ranges: [ClosedRange<UInt32>] = []) {
    var merged: [ClosedRange<UInt32>] = []
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if let last = merged.last, range.lowerBound <= last.upperBound &+ 1 {
        merged[merged.count - 1] =
          last.lowerBound...Swift.max(last.upperBound, range.upperBound)
      } else {
        merged.append(range)
      }
    }
    self.ranges = merged
  }

  init(_ scalar: UInt32) { ranges = [scalar...scalar] }

  static let all = ScalarSet([0...0x10FFFF])

  /// Scalars whose property bits satisfy `predicate`.
  init(where predicate: (UInt16) -> Bool) {
    let runs = UnicodeTables.properties
    var ranges: [ClosedRange<UInt32>] = []
    for (index, run) in runs.enumerated()
    where predicate(UnicodeTables.propertyKinds[Int(run & 0xFF)]) {
      let next = index + 1 < runs.count ? runs[index + 1] >> 8 : 0x110000
      ranges.append(run >> 8...next - 1)
    }
    self.init(ranges)
  }

  /// Scalars of a script, by its number in `UnicodeTables.scriptNames` (counted from 1).
  init(script: Int) {
    let runs = UnicodeTables.scripts
    var ranges: [ClosedRange<UInt32>] = []
    for (index, run) in runs.enumerated() where Int(run & 0xFF) == script {
      let next = index + 1 < runs.count ? runs[index + 1] >> 8 : 0x110000
      ranges.append(run >> 8...next - 1)
    }
    self.init(ranges)
  }

  func contains(_ scalar: UInt32) -> Bool {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if ranges[middle].upperBound < scalar { low = middle + 1 } else { high = middle }
    }
    return low < ranges.count && ranges[low].contains(scalar)
  }

  func union(_ other: ScalarSet) -> ScalarSet { ScalarSet(ranges + other.ranges) }

  var inverted: ScalarSet {
    var result: [ClosedRange<UInt32>] = []
    var next: UInt32 = 0
    for range in ranges {
      if range.lowerBound > next { result.append(next...range.lowerBound - 1) }
      next = range.upperBound + 1
    }
    if next <= 0x10FFFF { result.append(next...0x10FFFF) }
    return ScalarSet(result)
  }

  func intersection(_ other: ScalarSet) -> ScalarSet {
    inverted.union(other.inverted).inverted
  }

  /// With every scalar, also those that differ from it in case only.
  var foldingCase: ScalarSet {
    var result = ranges
    let table = UnicodeTables.caseFolding
    var index = 0
    while index < table.count {
      let members = table[index + 1...index + Int(table[index])]
      if members.contains(where: contains) { result += members.map { $0...$0 } }
      index += 1 + Int(table[index])
    }
    return ScalarSet(result)
  }
}

/// A `ScalarSet` made for testing membership: two words for ASCII, deduplicated blocks for the rest.
struct ScalarBitmap: Sendable {
  private let ascii: (UInt64, UInt64)
  /// Block of 256 scalars → its four words in `words`.
  private let blocks: [UInt16]
  private let words: [UInt64]

  init(_ set: ScalarSet) {
    var bits = [UInt64](repeating: 0, count: 0x110000 / 64)
    for range in set.ranges {
      for word in Int(range.lowerBound >> 6)...Int(range.upperBound >> 6) {
        // Which of the word's scalars lie in the range.
        let first = max(Int(range.lowerBound) - word << 6, 0)
        let last = min(Int(range.upperBound) - word << 6, 63)
        bits[word] |= ~0 << UInt64(first) & ~0 >> UInt64(63 - last)
      }
    }
    ascii = (bits[0], bits[1])
    var blocks: [UInt16] = []
    var words: [UInt64] = []
    var known: [ArraySlice<UInt64>: UInt16] = [:]
    for block in 0..<(0x110000 >> 8) {
      let slice = bits[block * 4..<block * 4 + 4]
      if let position = known[slice] {
        blocks.append(position)
      } else {
        let position = UInt16(words.count / 4)
        known[slice] = position
        blocks.append(position)
        words += slice
      }
    }
    self.blocks = blocks
    self.words = words
  }

  @inline(__always)
  func contains(_ scalar: UInt32) -> Bool {
    if scalar < 64 { return ascii.0 >> UInt64(scalar) & 1 != 0 }
    if scalar < 128 { return ascii.1 >> UInt64(scalar - 64) & 1 != 0 }
    let block = Int(blocks[Int(scalar >> 8)])
    return words[block * 4 + Int(scalar >> 6 & 3)] >> UInt64(scalar & 63) & 1 != 0
  }
}
