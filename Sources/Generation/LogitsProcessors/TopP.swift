import Torch

/// Keeps the likeliest tokens that together have a probability: "nucleus" sampling (Holtzman et al. 2019,
/// arXiv:1904.09751). The token that reaches it stays.
///
/// Tokens of equal probability stay or go together; transformers leaves it to its sort which of them stay.
public struct TopP: LogitsProcessor {
  public let probability: Double

  public init(_ probability: Double) {
    self.probability = probability
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    let probabilities = try scores.softmax()
    let vocabulary = scores.size(1)
    // A sort of the whole vocabulary costs more than all else here, and the nucleus is small as a rule.
    var count = Swift.min(1024, vocabulary)
    while true {
      let likeliest = try probabilities.topK(count).values  // [N, count], descending
      let before = try likeliest.cumulativeSum() - likeliest
      let dropped = try before.less(probability).logicalNot()
      let last = try dropped.slice(count - 1..<count, dimension: 1).array(of: Bool.self)
      guard count == vocabulary || last.allSatisfy({ $0 }) else {
        count = vocabulary
        continue
      }
      let kept = try likeliest.filled(where: dropped, with: .infinity)
      // At least the likeliest stays, even for a probability of 0.
      let first = try likeliest.slice(0..<1, dimension: 1)  // [N, 1]
      let least = try kept.min(1, keepingDimension: true).minimum(first)
      return try scores.filled(where: probabilities.less(least), with: -.infinity)
    }
  }
}
