import Torch

/// Keeps the tokens whose information −log p is closest to the entropy, up to a probability (Meister et al. 2022,
/// arXiv:2202.00666).
public struct TypicalP: LogitsProcessor {
  public let probability: Double

  public init(_ probability: Double) {
    self.probability = probability
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    let logarithms = try scores.logSoftmax()
    let probabilities = try logarithms.exp()
    // A token that is ruled out adds nothing; 0 · −∞ would be no number.
    let shares = try (logarithms * probabilities).filled(where: probabilities.equal(0), with: 0)
    let entropy = try -shares.sum(1, keepingDimension: true)  // [N, 1]
    let distances = try (logarithms + entropy).absolute()  // [N, vocabulary]
    let (sorted, order) = try distances.sorted()
    let reached = try probabilities.gathering(order, dimension: 1).cumulativeSum().less(probability)
    // The token at which the sum reaches the probability is the last that stays.
    let last = try reached.to(.float32).sum(1, keepingDimension: true)
      .clamped(0...Double(scores.size(1) - 1)).to(.int64)
    let limit = try sorted.gathering(last, dimension: 1)  // [N, 1]
    return try scores.filled(where: limit.less(distances), with: -.infinity)
  }
}
