/// Several sequences end to end, without padding: what one forward pass works on.
///
/// `T` is the number of tokens, `N` of sequences. Attention stays within a sequence by looking at the
/// offsets; nothing else needs to know where one ends.
public struct Batch: Sendable, Hashable {
  /// `[T]`
  public let tokens: [Int32]
  /// `[T]`, aligned with the tokens; ``ignoreIndex`` where there is no loss.
  public let labels: [Int32]
  /// `[T]`, each token's place in its own sequence, from 0.
  public let positions: [Int32]
  /// `[N+1]`: sequence `n` is `offsets[n]..<offsets[n+1]`.
  public let offsets: [Int32]
  /// Over how many tokens the loss is summed, see ``Example/supervisedTokens``.
  public let supervisedTokens: Int

  /// The examples end to end, in their order.
  public init(_ examples: [Example]) {
    let total = examples.reduce(0) { $0 + $1.count }
    var (tokens, labels, positions): ([Int32], [Int32], [Int32]) = ([], [], [])
    tokens.reserveCapacity(total)
    labels.reserveCapacity(total)
    positions.reserveCapacity(total)
    var offsets: [Int32] = [0]
    var supervised = 0
    for example in examples {
      tokens.append(contentsOf: example.tokens)
      labels.append(contentsOf: example.labels)
      positions.append(contentsOf: 0..<Int32(example.count))
      offsets.append(Int32(tokens.count))
      supervised += example.supervisedTokens
    }
    self.tokens = tokens
    self.labels = labels
    self.positions = positions
    self.offsets = offsets
    supervisedTokens = supervised
  }

  private init(_ whole: Batch, sequences: Range<Int>) {
    let (first, last) = (Int(whole.offsets[sequences.lowerBound]), Int(whole.offsets[sequences.upperBound]))
    tokens = Array(whole.tokens[first..<last])
    labels = Array(whole.labels[first..<last])
    positions = Array(whole.positions[first..<last])
    offsets = whole.offsets[sequences.lowerBound...sequences.upperBound].map { $0 - Int32(first) }
    supervisedTokens = sequences.reduce(0) { sum, sequence in
      // A sequence's first token is predicted from nothing.
      let predicted = Int(whole.offsets[sequence]) + 1..<Int(whole.offsets[sequence + 1])
      return sum + whole.labels[predicted].count { $0 != ignoreIndex }
    }
  }

  /// The sequences in their order, in as few batches of at most `limit` tokens as that makes; a sequence that is longer
  /// stands alone.
  public func split(maxTokens limit: Int) -> [Batch] {
    guard tokens.count > limit, sequences > 1 else { return [self] }
    var parts: [Range<Int>] = []
    var first = 0
    for sequence in 0..<sequences where sequence > first {
      if Int(offsets[sequence + 1] - offsets[first]) > limit {
        parts.append(first..<sequence)
        first = sequence
      }
    }
    parts.append(first..<sequences)
    return parts.map { Batch(self, sequences: $0) }
  }

  /// `N`
  public var sequences: Int { offsets.count - 1 }
  /// The longest sequence.
  public var maximumLength: Int {
    zip(offsets.dropFirst(), offsets).map { Int($0 - $1) }.max() ?? 0
  }
}
