import ArgumentParser
import Generation

/// How text is generated: shared by `generate`, `chat` and `evaluate`.
struct GenerationOptions: ParsableArguments {
  @Option(help: "Tokens to generate at most.")
  var maxNewTokens = 512

  @Option(
    help:
      "Randomness: 0 always takes the likeliest token (default: as the model's generation_config.json says, else 0)."
  )
  var temperature: Double?

  @Option(help: "Choose among this many likeliest tokens; 0 is all (default: the model's, else 50).")
  var topK: Int?

  @Option(
    help: "Choose among the likeliest tokens that make up this probability (default: the model's, else 1).")
  var topP: Double?

  @Option(help: "Choose among tokens of at least this share of the likeliest one's probability.")
  var minP: Double?

  @Option(
    help:
      "Divide the scores of tokens that occurred already (default: the model's, else 1, which changes nothing)."
  )
  var repetitionPenalty: Double?

  @Option(help: "Let no sequence of this many tokens come twice; 0 allows it.")
  var noRepeatNgramSize: Int?

  @Option(help: "Seed of the random choices (default: another one each time).")
  var seed: UInt64?

  @Option(help: ArgumentHelp("Stop before this text. May be repeated.", valueName: "text"))
  var stop: [String] = []

  @Flag(
    name: .customLong("ignore-eos"),
    help: "Go on behind the token that ends an answer, up to --max-new-tokens.")
  var ignoresEndOfSequence = false

  @Flag(
    inversion: .prefixedNo,
    help:
      "Copy bf16 weights into three quarters of their bytes on the way, without loss, where memory allows: faster from the first dozens of tokens on."
  )
  var packedWeights = true

  func validate() throws {
    func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
      if !condition { throw ValidationError(message()) }
    }
    try require(maxNewTokens >= 1, "--max-new-tokens \(maxNewTokens) is too few; write 1 or more.")
    if let temperature {
      try require(
        temperature >= 0 && temperature.isFinite,
        "--temperature \(temperature) is impossible; write 0 or more.")
    }
    if let topK { try require(topK >= 0, "--top-k \(topK) is impossible; write 0 or more.") }
    if let topP {
      try require(
        topP > 0 && topP <= 1, "--top-p \(topP) is no probability; write a number above 0, up to 1.")
    }
    if let minP {
      try require((0...1).contains(minP), "--min-p \(minP) is no share; write a number from 0 to 1.")
    }
    if let repetitionPenalty {
      try require(
        repetitionPenalty > 0 && repetitionPenalty.isFinite,
        "--repetition-penalty \(repetitionPenalty) is impossible; write a number above 0.")
    }
    if let noRepeatNgramSize {
      try require(
        noRepeatNgramSize >= 0, "--no-repeat-ngram-size \(noRepeatNgramSize) is impossible; write 0 or more.")
    }
    try require(!stop.contains(""), "--stop '' would stop before anything; write a text.")
  }

  /// What a model is published with, changed by what the user wrote.
  func config(over published: GenerationConfig) -> GenerationConfig {
    var config = published
    config.maxNewTokens = maxNewTokens
    config.seed = seed
    config.stopStrings += stop
    if ignoresEndOfSequence { config.eosTokenIDs = [] }
    config.packsWeights = packedWeights
    if let topK { config.topK = topK }
    if let topP { config.topP = topP }
    if let minP { config.minP = minP }
    if let repetitionPenalty { config.repetitionPenalty = repetitionPenalty }
    if let noRepeatNgramSize { config.noRepeatNGramSize = noRepeatNgramSize }
    if let temperature {
      config.doSample = temperature > 0
      if temperature > 0 { config.temperature = temperature }
    } else if topK != nil || topP != nil || minP != nil {
      // Who says what to draw from wants to draw.
      config.doSample = true
    }
    return config
  }
}
