import Torch

/// Keeps the `count` likeliest tokens (Fan et al. 2018, arXiv:1805.04833). Tokens as likely as the last of them stay, too.
public struct TopK: LogitsProcessor {
  public let count: Int

  public init(_ count: Int) {
    precondition(count > 0, "the likeliest \(count) tokens")
    self.count = count
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    let count = Swift.min(count, scores.size(1))
    let least = try scores.topK(count).values.slice(count - 1..<count, dimension: 1)  // [N, 1]
    return try scores.filled(where: scores.less(least), with: -.infinity)
  }
}
