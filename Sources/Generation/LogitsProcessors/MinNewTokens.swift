import Torch

/// Rules out the tokens that end an answer until it has a number of tokens.
public struct MinNewTokens: LogitsProcessor {
  public let count: Int
  public let eosTokens: [Int32]

  public init(_ count: Int, eosTokens: [Int32]) {
    self.count = count
    self.eosTokens = eosTokens
  }

  public func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor {
    guard sequences.contains(where: { $0.generatedCount < count }) else { return scores }
    let result = try scores.copy()
    let ends = eosTokens.filter { $0 >= 0 && $0 < Int32(scores.size(1)) }
    let tokens = try Tensor(ends.map(Int64.init), device: scores.device)
    let never = try Tensor.full([ends.count], -.infinity, device: scores.device)
    for (row, sequence) in sequences.enumerated() where sequence.generatedCount < count {
      try result.slice(row..<row + 1).squeezed(0).replaceInPlace(tokens, with: never)
    }
    return result
  }
}
