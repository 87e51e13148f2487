/// The label of a token that carries no loss; the value PyTorch's cross-entropy ignores by default.
public let ignoreIndex: Int32 = -100

/// One training sequence: tokens, and what the model is to learn of them.
///
/// Labels are aligned with the tokens: `labels[i]` is `tokens[i]` where token `i` carries loss and
/// ``ignoreIndex`` elsewhere. The loss shifts, nothing else does.
public struct Example: Sendable, Hashable {
  public let tokens: [Int32]
  public let labels: [Int32]

  public init(tokens: [Int32], labels: [Int32]) {
    precondition(tokens.count == labels.count, "an example has one label for each token")
    self.tokens = tokens
    self.labels = labels
  }

  public var count: Int { tokens.count }

  /// How many tokens the model is trained to predict. The first token of a sequence has nothing before it
  /// to be predicted from, so its label never counts (transformers counts `labels[1:]` alike).
  public var supervisedTokens: Int { labels.dropFirst().count { $0 != ignoreIndex } }
}
