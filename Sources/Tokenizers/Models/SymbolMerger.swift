/// Applies BPE merges to the symbols of one word: always the merge of the lowest rank, and of equal
/// ones the leftmost.
///
/// Short words scan their ranks for the minimum; long ones keep a heap, so that a word of a megabyte
/// takes n log n steps.
enum SymbolMerger {
  /// Longest word for which scanning beats a heap.
  private static let scanLimit = 64

  /// Merges `symbols` in place; returns how many are left. `lengths` holds the bytes of each symbol
  /// and is kept in step.
  static func merge(
    _ symbols: UnsafeMutableBufferPointer<Int32>, lengths: UnsafeMutableBufferPointer<Int32>,
    _ merges: MergeTable.Lookup
  ) -> Int {
    if symbols.count < 2 { return symbols.count }
    if symbols.count <= scanLimit { return scan(symbols, lengths, merges) }
    return heap(symbols, lengths, merges)
  }

  private static func scan(
    _ symbols: UnsafeMutableBufferPointer<Int32>, _ lengths: UnsafeMutableBufferPointer<Int32>,
    _ merges: MergeTable.Lookup
  ) -> Int {
    // Rank and result of the pair that each symbol forms with the next one.
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: symbols.count) { ranks in
      withUnsafeTemporaryAllocation(of: Int32.self, capacity: symbols.count) { results in
        var count = symbols.count
        for index in 0..<count - 1 {
          (ranks[index], results[index]) = merges[symbols[index], symbols[index + 1]]
        }
        ranks[count - 1] = MergeTable.none
        results[count - 1] = -1
        while true {
          var best = 0
          var lowest = MergeTable.none
          for index in 0..<count - 1 where ranks[index] < lowest {
            lowest = ranks[index]
            best = index
          }
          if lowest == MergeTable.none { return count }
          symbols[best] = results[best]
          lengths[best] += lengths[best + 1]
          count -= 1
          var index = best + 1
          while index < count {
            symbols[index] = symbols[index + 1]
            lengths[index] = lengths[index + 1]
            ranks[index] = ranks[index + 1]
            results[index] = results[index + 1]
            index += 1
          }
          if best + 1 < count {
            (ranks[best], results[best]) = merges[symbols[best], symbols[best + 1]]
          } else {
            ranks[best] = MergeTable.none
          }
          if best > 0 {
            (ranks[best - 1], results[best - 1]) = merges[symbols[best - 1], symbols[best]]
          }
          if count == 1 { return 1 }
        }
      }
    }
  }

  private static func heap(
    _ symbols: UnsafeMutableBufferPointer<Int32>, _ lengths: UnsafeMutableBufferPointer<Int32>,
    _ merges: MergeTable.Lookup
  ) -> Int {
    let count = symbols.count
    // A doubly linked list of the symbols that are left; a merged symbol has length 0.
    var next = (0..<count).map { Int32($0 + 1) }
    var previous = (0..<count).map { Int32($0 - 1) }
    var queue = MergeQueue(capacity: count)
    for index in 0..<count - 1 {
      let rank = merges[symbols[index], symbols[index + 1]].rank
      if rank != MergeTable.none { queue.push(rank, index) }
    }
    while let (rank, index) = queue.pop() {
      guard lengths[index] > 0, Int(next[index]) < count else { continue }
      let right = Int(next[index])
      // The pair may have changed since it was queued.
      let (current, result) = merges[symbols[index], symbols[right]]
      guard current == rank else { continue }
      symbols[index] = result
      lengths[index] += lengths[right]
      lengths[right] = 0
      next[index] = next[right]
      if Int(next[index]) < count {
        previous[Int(next[index])] = Int32(index)
        let rank = merges[symbols[index], symbols[Int(next[index])]].rank
        if rank != MergeTable.none { queue.push(rank, index) }
      }
      if previous[index] >= 0 {
        let left = Int(previous[index])
        let rank = merges[symbols[left], symbols[index]].rank
        if rank != MergeTable.none { queue.push(rank, left) }
      }
    }
    var kept = 0
    for index in 0..<count where lengths[index] > 0 {
      symbols[kept] = symbols[index]
      lengths[kept] = lengths[index]
      kept += 1
    }
    return kept
  }
}

/// A binary min-heap of (rank, position), packed into one word each.
private struct MergeQueue {
  private var items: [UInt64] = []

  init(capacity: Int) { items.reserveCapacity(capacity) }

  mutating func push(_ rank: UInt32, _ position: Int) {
    let item = UInt64(rank) << 32 | UInt64(position)
    var child = items.count
    items.append(item)
    while child > 0 {
      let parent = (child - 1) / 2
      guard item < items[parent] else { break }
      items[child] = items[parent]
      child = parent
    }
    items[child] = item
  }

  mutating func pop() -> (rank: UInt32, position: Int)? {
    guard let top = items.first, let last = items.popLast() else { return nil }
    if !items.isEmpty {
      var hole = 0
      while true {
        var child = 2 * hole + 1
        guard child < items.count else { break }
        if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
        guard items[child] < last else { break }
        items[hole] = items[child]
        hole = child
      }
      items[hole] = last
    }
    return (UInt32(top >> 32), Int(top & 0xFFFF_FFFF))
  }
}
