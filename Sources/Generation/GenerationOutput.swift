/// What was generated behind one prompt.
public struct GenerationOutput: Sendable, Hashable {
  public let promptTokenCount: Int
  /// The generated tokens; a token that ended the answer is the last of them.
  public let tokens: [Int32]
  /// Their text, without special tokens, up to a stop string if one ended it.
  public let text: String
  public let finishReason: FinishReason
}

/// Why an answer ended.
public enum FinishReason: Sendable, Hashable {
  /// The model ended it with this token.
  case endOfSequence(Int32)
  /// One of the stop strings came.
  case stopString(String)
  /// As many tokens as were asked for.
  case length
  /// The model's positions are used up.
  case contextLength
  /// The caller asked for the end.
  case cancelled

  /// One word, as interfaces of language models write it: `stop`, `length` or `cancelled`.
  public var name: String {
    switch self {
    case .endOfSequence, .stopString: "stop"
    case .length, .contextLength: "length"
    case .cancelled: "cancelled"
    }
  }
}

/// Work and time of a call of ``Generator``.
public struct GenerationStatistics: Sendable, Hashable {
  /// Tokens of the prompts, read in `prefillSeconds`, which the first token of each answer includes.
  public var promptTokens = 0
  public var prefillSeconds = 0.0
  /// Tokens behind the first of each answer, and the time that they took.
  public var decodedTokens = 0
  public var decodeSeconds = 0.0

  public init() {}

  public var prefillTokensPerSecond: Double { prefillSeconds > 0 ? Double(promptTokens) / prefillSeconds : 0 }
  /// Answers that were begun, each with its first token.
  public var answers = 0

  /// Generated tokens over all the time, reading the prompts included.
  public var tokensPerSecond: Double {
    let seconds = prefillSeconds + decodeSeconds
    return seconds > 0 ? Double(answers + decodedTokens) / seconds : 0
  }

  public var decodeTokensPerSecond: Double { decodeSeconds > 0 ? Double(decodedTokens) / decodeSeconds : 0 }
}
