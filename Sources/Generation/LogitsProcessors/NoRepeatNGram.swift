import Torch

/// Rules out the tokens that would complete a sequence of `size` tokens which prompt or answer have already
/// (Paulus et al. 2017, arXiv:1705.04304).
public struct NoRepeatNGram: LogitsProcessor {
  public let size: Int

  public init(size: Int) {
    precondition(size > 0, "n-grams of \(size) tokens")
    self.size = size
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    let result = try scores.copy()
    let vocabulary = Int32(scores.size(1))
    for (row, sequence) in sequences.enumerated() {
      let banned = completions(of: sequence.tokens).filter { $0 < vocabulary }
      guard !banned.isEmpty else { continue }
      try result.slice(row..<row + 1).squeezed(0).replaceInPlace(
        Tensor(banned.map(Int64.init), device: scores.device),
        with: Tensor.full([banned.count], -.infinity, device: scores.device))
    }
    return result
  }

  /// What followed each earlier occurrence of the last `size` − 1 tokens.
  private func completions(of tokens: [Int32]) -> Set<Int32> {
    guard tokens.count >= size else { return [] }
    let end = tokens[(tokens.count - size + 1)...]
    var found: Set<Int32> = []
    for start in 0...(tokens.count - size) where tokens[start..<start + size - 1].elementsEqual(end) {
      found.insert(tokens[start + size - 1])
    }
    return found
  }
}
