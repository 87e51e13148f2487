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
  /// How many tokens all sequences begin with, such as those of a system prompt; each has one of its own behind them. 0 for a
  /// single sequence.
  public let sharedPrefix: Int

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
    sharedPrefix = Self.sharedPrefix(examples)
  }

  private static func sharedPrefix(_ examples: [Example]) -> Int {
    guard examples.count > 1, let first = examples.first?.tokens else { return 0 }
    return examples.reduce(max(first.count - 1, 0)) { shared, example in
      let limit = min(shared, max(example.count - 1, 0))
      return (0..<limit).first { example.tokens[$0] != first[$0] } ?? limit
    }
  }

  /// Rows of a model's layers that the batch takes as much memory as, when what its sequences share is computed once: of the copies
  /// of that, attention alone keeps something.
  public var rowsWithSharedPrefix: Int {
    tokens.count - (sequences - 1) * rowsSavedByCopy
  }

  /// What a copy of the shared prefix takes less than rows of its own.
  private var rowsSavedByCopy: Int { sharedPrefix - sharedPrefix / Self.attentionShare }

  /// What attention keeps of a token is about this part of what a layer keeps.
  private static let attentionShare = 4

  /// The sequences in their order, in as few batches of at most `limit` tokens as that makes, of which the largest is as small
  /// as it can be; a sequence that is longer stands alone.
  ///
  /// - Parameter sharesPrefix: whether what all sequences begin with is computed once, so that it comes on top of the limit once.
  public func split(maxTokens limit: Int, sharesPrefix: Bool = false) -> [Batch] {
    guard tokens.count > limit, sequences > 1 else { return [self] }
    let once = sharesPrefix ? rowsSavedByCopy : 0
    let lengths = zip(offsets.dropFirst(), offsets).map { Int($0 - $1) - once }
    let parts = Self.split(lengths, limit: limit).count
    // Memory follows the largest part, so that a full one and a small rest are worse than two of a size.
    var (low, high) = (lengths.max() ?? 0, limit)
    while low < high {
      let middle = (low + high) / 2
      if Self.split(lengths, limit: middle).count > parts { low = middle + 1 } else { high = middle }
    }
    let width = targets.count / sequences
    return Self.split(lengths, limit: high).map { part in
      Batch(
        part.map { sequence in
          let range = Int(offsets[sequence])..<Int(offsets[sequence + 1])
          return Example(
            tokens: Array(tokens[range]), labels: Array(labels[range]),
            target: Array(targets[sequence * width..<(sequence + 1) * width]))
        })
    }
  }

  /// Ranges of sequences, each as long as `limit` lets it be.
  private static func split(_ lengths: [Int], limit: Int) -> [Range<Int>] {
    var parts: [Range<Int>] = []
    var room = 0
    for (sequence, length) in lengths.enumerated() {
      if let last = parts.last, length <= room {
        parts[parts.count - 1] = last.lowerBound..<sequence + 1
      } else {
        parts.append(sequence..<sequence + 1)
        room = limit
      }
      room -= length
    }
    return parts
  }

  /// `N`
  public var sequences: Int { offsets.count - 1 }
  /// The longest sequence.
  public var maximumLength: Int {
    zip(offsets.dropFirst(), offsets).map { Int($0 - $1) }.max() ?? 0
  }
}
