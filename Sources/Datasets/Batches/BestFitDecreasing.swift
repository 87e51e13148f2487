/// Best-fit-decreasing packing: the longest sequence first, each into the fullest pack that still has room.
///
/// Packs come out at most `capacity` tokens long and nearly full. No sequence is cut. The sequences in a pack
/// stay sequences of their own: attention does not cross from one to the next.
///
/// Source: Ding et al., "Fewer Truncations Improve Language Modeling", 2024 (`packing_strategy="bfd"` in TRL).
struct BestFitDecreasing {
  /// For each pack the indices of its sequences, in the order in which they were put there.
  ///
  /// Sequences of equal length are taken in the order given, so that a shuffled order gives other packs.
  /// Takes O(n log capacity).
  ///
  /// - Parameter order: indices into `lengths`, none of them longer than `capacity`.
  static func packs(of order: [Int32], lengths: [Int32], capacity: Int) -> [[Int32]] {
    // Counting sort by length; stable.
    var byLength = [[Int32]](repeating: [], count: capacity + 1)
    for index in order { byLength[Int(lengths[Int(index)])].append(index) }

    var packs: [[Int32]] = []
    var withRoom = [[Int32]](repeating: [], count: capacity + 1)  // packs by their free tokens
    var rooms = RoomIndex(capacity: capacity)
    for length in stride(from: capacity, through: 0, by: -1) {
      for index in byLength[length] {
        if let room = rooms.smallest(atLeast: length) {
          let pack = withRoom[room].removeLast()
          if withRoom[room].isEmpty { rooms.remove(room) }
          packs[Int(pack)].append(index)
          insert(pack, room: room - length)
        } else {
          packs.append([index])
          insert(Int32(packs.count - 1), room: capacity - length)
        }
      }
    }
    return packs

    func insert(_ pack: Int32, room: Int) {
      if withRoom[room].isEmpty { rooms.insert(room) }
      withRoom[room].append(pack)
    }
  }
}

/// A set of numbers up to `capacity` that finds the smallest one not below a bound: a tree of 64-bit sets.
private struct RoomIndex {
  private var levels: [[UInt64]] = []  // levels[0] holds the numbers, each above the occupied words below

  init(capacity: Int) {
    var words = capacity + 1
    repeat {
      words = (words + 63) / 64
      levels.append([UInt64](repeating: 0, count: words))
    } while words > 1
  }

  mutating func insert(_ number: Int) {
    var number = number
    for level in levels.indices {
      levels[level][number / 64] |= 1 << UInt64(number % 64)
      number /= 64
    }
  }

  mutating func remove(_ number: Int) {
    var number = number
    for level in levels.indices {
      levels[level][number / 64] &= ~(1 << UInt64(number % 64))
      guard levels[level][number / 64] == 0 else { return }
      number /= 64
    }
  }

  func smallest(atLeast bound: Int) -> Int? {
    var number = bound
    for level in levels.indices {
      let word = number / 64
      guard word < levels[level].count else { return nil }
      let candidates = levels[level][word] >> UInt64(number % 64)
      if candidates != 0 {
        number += candidates.trailingZeroBitCount
        for below in levels[..<level].reversed() {
          number = number * 64 + below[number].trailingZeroBitCount
        }
        return number
      }
      number = word + 1
    }
    return nil
  }
}
