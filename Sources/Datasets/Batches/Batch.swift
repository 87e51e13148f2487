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
  /// ``Example/target`` of each sequence, one behind the other; empty where tokens are to be predicted.
  public let targets: [Float]
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
    var targets: [Float] = []
    var supervised = 0
    for example in examples {
      tokens.append(contentsOf: example.tokens)
      labels.append(contentsOf: example.labels)
      positions.append(contentsOf: 0..<Int32(example.count))
      offsets.append(Int32(tokens.count))
      targets.append(contentsOf: example.target)
      supervised += example.supervisedTokens
    }
    self.tokens = tokens
    self.labels = labels
    self.positions = positions
    self.offsets = offsets
    self.targets = targets
    supervisedTokens = supervised
  }

  /// The sequences in their order, in as few batches of at most `limit` tokens as that makes; a sequence that is longer
  /// stands alone.
  public func split(maxTokens limit: Int) -> [Batch] {
    guard tokens.count > limit, sequences > 1 else { return [self] }
    var parts: [[Example]] = []
    var room = 0
    let width = targets.count / sequences
    for (index, (start, end)) in zip(offsets, offsets.dropFirst()).enumerated() {
      let sequence = Int(start)..<Int(end)
      if parts.isEmpty || sequence.count > room {
        parts.append([])
        room = limit
      }
      parts[parts.count - 1].append(
        Example(
          tokens: Array(tokens[sequence]), labels: Array(labels[sequence]),
          target: Array(targets[index * width..<(index + 1) * width])))
      room -= sequence.count
    }
    return parts.map(Batch.init)
  }

  /// `N`
  public var sequences: Int { offsets.count - 1 }
  /// The longest sequence.
  public var maximumLength: Int {
    zip(offsets.dropFirst(), offsets).map { Int($0 - $1) }.max() ?? 0
  }
}
