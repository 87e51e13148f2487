import Torch

/// Changes the scores of the next token before it is chosen.
///
/// A processor is one file here and one line in ``LogitsProcessors/of(_:eosTokens:)``.
public protocol LogitsProcessor: Sendable {
  /// - Parameters:
  ///   - scores: fp32 `[N, vocabulary]`, one row a sequence.
  ///   - sequences: what each row continues.
  /// - Returns: the new scores, in the same shape; −∞ rules a token out.
  func callAsFunction(_ scores: Tensor, _ sequences: [TokenSequence]) throws -> Tensor
}

/// A prompt and what was generated behind it.
public struct TokenSequence: Sendable, Hashable {
  /// All tokens, those of the prompt first.
  public internal(set) var tokens: [Int32]
  /// How many of them are the prompt.
  public let promptCount: Int

  public init(prompt: [Int32], generated: [Int32] = []) {
    tokens = prompt + generated
    promptCount = prompt.count
  }

  public var generatedCount: Int { tokens.count - promptCount }
}

/// The processors that a configuration asks for, in the order of transformers.
public enum LogitsProcessors {
  /// - Parameter eosTokens: the tokens that end an answer.
  public static func of(_ config: GenerationConfig, eosTokens: [Int32]) -> [any LogitsProcessor] {
    var processors: [any LogitsProcessor] = []
    if config.repetitionPenalty != 1 { processors.append(RepetitionPenalty(config.repetitionPenalty)) }
    if config.noRepeatNGramSize > 0 { processors.append(NoRepeatNGram(size: config.noRepeatNGramSize)) }
    if let count = config.minNewTokens, count > 0, !eosTokens.isEmpty {
      processors.append(MinNewTokens(count, eosTokens: eosTokens))
    }
    guard config.doSample else { return processors }
    if config.temperature != 1 { processors.append(Temperature(config.temperature)) }
    if config.topK > 0 { processors.append(TopK(config.topK)) }
    if config.topP < 1 { processors.append(TopP(config.topP)) }
    if let minP = config.minP { processors.append(MinP(minP)) }
    if config.typicalP < 1 { processors.append(TypicalP(config.typicalP)) }
    return processors
  }
}
