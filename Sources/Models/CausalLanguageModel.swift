import NeuralNetworks
import Torch

/// A model that predicts the next token.
public protocol CausalLanguageModel: PretrainedModel {}

extension CausalLanguageModel {
  public var task: ModelTask { .causalLM }

  /// The projection to the vocabulary (`lm_head`); its weight may be the input embedding's.
  public var outputEmbedding: Linear { head }

  /// Logits `[T, vocabulary]` of every position; for looking at, not for training.
  public func logits(_ input: ModelInput) throws -> Tensor {
    try head(hiddenStates(input))
  }

  /// Logits `[N, vocabulary]` behind the last token of each sequence.
  public func nextTokenLogits(_ input: ModelInput) throws -> Tensor {
    try head(hiddenStates(input, tokens: input.lastTokens()))
  }
}
