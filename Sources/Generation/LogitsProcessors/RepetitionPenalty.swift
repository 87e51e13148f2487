import Torch

/// Makes tokens less likely that the prompt or the answer has already: positive scores are divided by the penalty,
/// negative ones multiplied by it (Keskar et al. 2019, arXiv:1909.05858).
public struct RepetitionPenalty: LogitsProcessor {
  public let penalty: Double

  /// - Parameter penalty: above 1 discourages repetition, below 1 encourages it.
  public init(_ penalty: Double) {
    self.penalty = penalty
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    let result = try scores.copy()
    let vocabulary = Int32(scores.size(1))
    for (row, sequence) in sequences.enumerated() {
      // Once each: the penalty does not grow with the number of occurrences.
      let seen = Set(sequence.tokens).filter { $0 < vocabulary }
      guard !seen.isEmpty else { continue }
      let tokens = try Tensor(seen.map(Int64.init), device: scores.device)
      let own = try result.slice(row..<row + 1).squeezed(0)
      let before = try own.selecting(tokens)
      let after = try (before * penalty).selected(where: before.less(0), else: before / penalty)
      try own.replaceInPlace(tokens, with: after)
    }
    return result
  }
}
