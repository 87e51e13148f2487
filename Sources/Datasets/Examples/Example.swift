/// The label of a token that carries no loss; the value PyTorch's cross-entropy ignores by default.
public let ignoreIndex: Int32 = -100

/// One training sequence: tokens, and what the model is to learn of them.
///
/// Labels are aligned with the tokens: `labels[i]` is `tokens[i]` where token `i` carries loss and
/// ``ignoreIndex`` elsewhere. The loss shifts, nothing else does.
public struct Example: Sendable, Hashable {
  public let tokens: [Int32]
  public let labels: [Int32]
  /// What the sequence as a whole is to give: the number of its class, or a value for each label; empty where tokens are to be
  /// predicted.
  public let target: [Float]

  public init(tokens: [Int32], labels: [Int32]) {
    self.init(tokens: tokens, labels: labels, target: [])
  }

  /// A sequence that is to give `target`; no token of it is to be predicted.
  public init(tokens: [Int32], target: [Float]) {
    self.init(
      tokens: tokens, labels: Array(repeating: ignoreIndex, count: tokens.count), target: target)
  }

  init(tokens: [Int32], labels: [Int32], target: [Float]) {
    precondition(tokens.count == labels.count, "an example has one label for each token")
    self.tokens = tokens
    self.labels = labels
    self.target = target
  }

  public var count: Int { tokens.count }

  /// How many tokens the model is trained to predict. The first token of a sequence has nothing before it
  /// to be predicted from, so its label never counts (transformers counts `labels[1:]` alike).
  ///
  /// Of a sequence with a ``target`` it is one: the last, behind which the answer is read.
  public var supervisedTokens: Int {
    target.isEmpty ? labels.dropFirst().count { $0 != ignoreIndex } : 1
  }
}
