/// The random numbers that order the data: xoshiro256**, seeded by SplitMix64.
///
/// The order of an epoch is part of a checkpoint's meaning, so it must not change with the platform or the
/// version of Swift. Neither the generator nor how it is used (``below(_:)``, ``shuffle(_:)``) therefore comes
/// from the standard library, whose `shuffle` may change.
///
/// Sources: Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021 (xoshiro256**);
/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (SplitMix64);
/// Lemire, "Fast random integer generation in an interval", 2019 (``below(_:)``).
public struct ShuffleGenerator: Sendable {
  private var state: (UInt64, UInt64, UInt64, UInt64)

  /// - Parameters:
  ///   - seed: the run's seed.
  ///   - stream: tells apart what is drawn under one seed, for instance the epoch.
  public init(seed: UInt64, stream: UInt64 = 0) {
    var seeding = SplitMix64(state: seed)
    var mixed = SplitMix64(state: seeding.next() &+ stream)
    state = (mixed.next(), mixed.next(), mixed.next(), mixed.next())
  }

  public mutating func next() -> UInt64 {
    let result = Self.rotate(state.1 &* 5, by: 7) &* 9
    let shifted = state.1 << 17
    state.2 ^= state.0
    state.3 ^= state.1
    state.1 ^= state.2
    state.0 ^= state.3
    state.2 ^= shifted
    state.3 = Self.rotate(state.3, by: 45)
    return result
  }

  /// A number from 0 up to, not including, `bound`, each equally likely.
  public mutating func below(_ bound: UInt64) -> UInt64 {
    precondition(bound > 0)
    var product = next().multipliedFullWidth(by: bound)
    if product.low < bound {
      let threshold = (0 &- bound) % bound
      while product.low < threshold { product = next().multipliedFullWidth(by: bound) }
    }
    return product.high
  }

  /// Fisher and Yates, from the end.
  public mutating func shuffle<Element>(_ elements: inout [Element]) {
    guard elements.count > 1 else { return }
    for last in stride(from: elements.count - 1, to: 0, by: -1) {
      elements.swapAt(last, Int(below(UInt64(last + 1))))
    }
  }

  private static func rotate(_ value: UInt64, by count: UInt64) -> UInt64 {
    value << count | value >> (64 - count)
  }
}

private struct SplitMix64 {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var mixed = state
    mixed = (mixed ^ mixed >> 30) &* 0xBF58_476D_1CE4_E5B9
    mixed = (mixed ^ mixed >> 27) &* 0x94D0_49BB_1331_11EB
    return mixed ^ mixed >> 31
  }
}
