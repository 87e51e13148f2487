/// How text is generated. Names, meaning and defaults are those of transformers' `GenerationConfig`.
public struct GenerationConfig: Sendable, Hashable {
  // MARK: Length

  /// Tokens to generate at most.
  public var maxNewTokens: Int?
  /// Tokens of prompt and answer together at most; `maxNewTokens` goes before it. With neither, 20 tokens are generated.
  public var maxLength: Int?
  /// Tokens to generate at least: before that many, no token ends the answer.
  public var minNewTokens: Int?

  // MARK: The end

  /// Tokens that end an answer; nil takes those of the model's configuration and its tokenizer.
  public var eosTokenIDs: [Int32]?
  /// Texts that end an answer. They are not part of it.
  public var stopStrings: [String]

  // MARK: Choice

  /// Draws tokens by their probability; otherwise the likeliest is taken.
  public var doSample: Bool
  /// Seed of the draws; nil draws differently each time.
  public var seed: UInt64?
  /// Divides the logits: below 1 favours likely tokens, above 1 unlikely ones.
  public var temperature: Double
  /// Draws from this many likeliest tokens; 0 is all.
  public var topK: Int
  /// Draws from the likeliest tokens that together have this probability; 1 is all.
  public var topP: Double
  /// Draws from tokens that have at least this share of the likeliest one's probability; nil is all.
  public var minP: Double?
  /// Draws from the tokens whose information is closest to the expected one, up to this probability; 1 is all.
  public var typicalP: Double

  // MARK: Repetition

  /// Divides positive logits of tokens that occurred before, and multiplies negative ones; 1 changes nothing.
  public var repetitionPenalty: Double
  /// No sequence of this many tokens comes twice; 0 allows it.
  public var noRepeatNGramSize: Int

  // MARK: Speed

  /// Whether weights in bf16 are copied into three quarters of their bytes while text is generated, without loss, so that each token takes
  /// less time: on processors with AVX-512 and bf16, where there is memory for it and the model has no adapters that are not merged. Not
  /// of transformers.
  public var packsWeights = true

  public init(
    maxNewTokens: Int? = nil, maxLength: Int? = nil, minNewTokens: Int? = nil, eosTokenIDs: [Int32]? = nil,
    stopStrings: [String] = [], doSample: Bool = false, seed: UInt64? = nil, temperature: Double = 1,
    topK: Int = 50, topP: Double = 1, minP: Double? = nil, typicalP: Double = 1,
    repetitionPenalty: Double = 1,
    noRepeatNGramSize: Int = 0
  ) {
    self.maxNewTokens = maxNewTokens
    self.maxLength = maxLength
    self.minNewTokens = minNewTokens
    self.eosTokenIDs = eosTokenIDs
    self.stopStrings = stopStrings
    self.doSample = doSample
    self.seed = seed
    self.temperature = temperature
    self.topK = topK
    self.topP = topP
    self.minP = minP
    self.typicalP = typicalP
    self.repetitionPenalty = repetitionPenalty
    self.noRepeatNGramSize = noRepeatNGramSize
  }

  /// Tokens that may follow a prompt of `promptCount` tokens.
  func limit(promptCount: Int) -> Int {
    maxNewTokens ?? maxLength.map { max(0, $0 - promptCount) } ?? 20
  }

  /// - Throws: ``GenerationError`` about the first value that is impossible.
  public func validate() throws {
    func require(_ condition: Bool, _ name: String, _ value: Any, _ remedy: String) throws {
      if !condition {
        throw GenerationError("`\(name)` of the generation settings is \(value); \(remedy).")
      }
    }
    try require(maxNewTokens ?? 1 >= 1, "max_new_tokens", maxNewTokens ?? 0, "write 1 or more")
    try require(maxLength ?? 1 >= 1, "max_length", maxLength ?? 0, "write 1 or more")
    try require(minNewTokens ?? 0 >= 0, "min_new_tokens", minNewTokens ?? 0, "write 0 or more")
    try require(
      temperature > 0 && temperature.isFinite || !doSample, "temperature", temperature,
      "write a number above 0, or turn `do_sample` off to take the likeliest token always")
    try require(topK >= 0, "top_k", topK, "write 0 (all tokens) or more")
    try require(topP >= 0 && topP <= 1, "top_p", topP, "write a probability from 0 to 1")
    try require((0...1).contains(minP ?? 0), "min_p", minP ?? 0, "write a share from 0 to 1")
    try require(typicalP > 0 && typicalP <= 1, "typical_p", typicalP, "write a probability above 0, up to 1")
    try require(
      repetitionPenalty > 0 && repetitionPenalty.isFinite, "repetition_penalty", repetitionPenalty,
      "write a number above 0; 1 changes nothing")
    try require(noRepeatNGramSize >= 0, "no_repeat_ngram_size", noRepeatNGramSize, "write 0 or more")
    try require(!stopStrings.contains(""), "stop_strings", stopStrings, "take the empty text out")
  }
}
