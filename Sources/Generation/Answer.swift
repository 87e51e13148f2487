import Tokenizers

/// An answer while it is made: its tokens, and their text as far as it is settled.
struct Answer {
  /// The prompt's number in the call.
  let index: Int
  var sequence: TokenSequence
  private(set) var text = ""
  private(set) var finishReason: FinishReason?

  private let eosTokens: Set<Int32>
  /// Tokens after which the answer ends, and why.
  private let limit: (count: Int, reason: FinishReason)
  private var decoder: StreamingDecoder?
  private var stops: StopStrings

  init(
    index: Int, prompt: [Int32], eosTokens: [Int32], limit: (count: Int, reason: FinishReason),
    stopStrings: [String], tokenizer: Tokenizer?
  ) {
    self.index = index
    sequence = TokenSequence(prompt: prompt)
    self.eosTokens = Set(eosTokens)
    self.limit = limit
    decoder = tokenizer.map { StreamingDecoder($0, skipSpecialTokens: true) }
    stops = StopStrings(stopStrings)
  }

  /// Takes the next token.
  ///
  /// - Returns: the text that it settles.
  mutating func append(_ token: Int32) -> String {
    sequence.tokens.append(token)
    var (new, stop) = stops.append(decoder?.append(token) ?? "")
    if let stop {
      finishReason = .stopString(stop)
    } else {
      if eosTokens.contains(token) {
        finishReason = .endOfSequence(token)
      } else if sequence.generatedCount >= limit.count {
        finishReason = limit.reason
      }
      if finishReason != nil { new += flush() }
    }
    text += new
    return new
  }

  /// Ends the answer from without.
  ///
  /// - Returns: the text that was held back.
  mutating func cancel() -> String {
    finishReason = .cancelled
    let new = flush()
    text += new
    return new
  }

  private mutating func flush() -> String {
    let (text, stop) = stops.append(decoder?.finish() ?? "")
    if let stop { finishReason = .stopString(stop) }
    return text + stops.finish()
  }

  var output: GenerationOutput {
    let tokens = sequence.tokens[sequence.promptCount...]
    return GenerationOutput(
      promptTokenCount: sequence.promptCount, tokens: Array(tokens), text: text,
      finishReason: finishReason ?? .cancelled)
  }
}
