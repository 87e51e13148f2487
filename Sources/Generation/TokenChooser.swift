import Torch

/// Chooses the next token of each sequence from the logits: the likeliest, or one drawn by its probability.
///
/// Each sequence draws from a generator of its own, made from the seed and the sequence's number. What is drawn for a
/// prompt therefore depends neither on the other prompts nor on the device, as far as their logits are equal; the
/// numbers are not those that PyTorch would draw.
struct TokenChooser {
  private let processors: [any LogitsProcessor]
  private let doSample: Bool
  private let seed: UInt64

  init(_ config: GenerationConfig, eosTokens: [Int32]) {
    processors = LogitsProcessors.of(config, eosTokens: eosTokens)
    doSample = config.doSample
    seed = config.seed ?? .random(in: .min ... .max)
  }

  func makeGenerator(sequence: Int) -> SplitMix64 {
    // Through the generator once: neighbouring seeds would give shifted copies of one stream.
    var numbers = SplitMix64(seed: seed &+ UInt64(sequence) &* 0xd1b5_4a32_d192_ed03)
    return SplitMix64(seed: numbers.next())
  }

  /// - Parameters:
  ///   - logits: `[N, vocabulary]` in any type.
  ///   - generators: one a sequence.
  func choose(_ logits: Tensor, _ sequences: [TokenSequence], _ generators: inout [SplitMix64]) throws
    -> [Int32]
  {
    if processors.isEmpty, !doSample { return try greedy(logits) }
    // fp32: processors and softmax lose small probabilities in half precision.
    let scores = try processors.reduce(logits.to(.float32)) { try $1($0, sequences) }
    return doSample ? try draw(scores, &generators) : try greedy(scores)
  }

  private func greedy(_ scores: Tensor) throws -> [Int32] {
    try scores.argmax(1).array(of: Int64.self).map { Int32(truncatingIfNeeded: $0) }
  }

  /// The inverse of the cumulative probability at a uniform number.
  private func draw(_ scores: Tensor, _ generators: inout [SplitMix64]) throws -> [Int32] {
    let vocabulary = scores.size(1)
    let probabilities = try scores.softmax().floats()
    return try probabilities.withUnsafeBufferPointer { probabilities in
      try generators.indices.map { row in
        let own = UnsafeBufferPointer(rebasing: probabilities[row * vocabulary..<(row + 1) * vocabulary])
        var rest = generators[row].uniform()
        var last: Int?
        for (token, probability) in own.enumerated() where probability > 0 {
          rest -= Double(probability)
          last = token
          if rest < 0 { break }
        }
        // Rounding may leave a rest behind the last possible token.
        guard let last else {
          throw GenerationError(
            "The model's logits are not numbers, so that no token can be drawn. Its weights may be damaged, or the "
              + "adapter's training may have diverged; float32 (`--dtype float32`) rules out an overflow.")
        }
        return Int32(last)
      }
    }
  }
}

/// SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195).
struct SplitMix64: RandomNumberGenerator, Sendable {
  private var state: UInt64

  init(seed: UInt64) {
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  /// From [0, 1), with 53 bits.
  mutating func uniform() -> Double { Double(next() >> 11) * 0x1p-53 }
}
