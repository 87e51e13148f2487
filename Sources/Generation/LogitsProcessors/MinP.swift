import Torch

/// Keeps the tokens that have at least a share of the likeliest one's probability (Nguyen et al. 2024,
/// arXiv:2407.01082).
public struct MinP: LogitsProcessor {
  public let share: Double

  public init(_ share: Double) {
    self.share = share
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    let probabilities = try scores.softmax()
    let least = try probabilities.max(1, keepingDimension: true) * share  // [N, 1]
    return try scores.filled(where: probabilities.less(least), with: -.infinity)
  }
}
