import ArgumentParser

/// How text is generated: shared by `generate`, `chat` and `evaluate`.
struct GenerationOptions: ParsableArguments {
  @Option(help: "Tokens to generate at most.")
  var maxNewTokens = 512

  @Option(help: "Randomness: 0 always takes the likeliest token.")
  var temperature = 0.0

  @Option(help: "Choose among this many likeliest tokens; 0 is all.")
  var topK = 0

  @Option(help: "Choose among the likeliest tokens that make up this probability.")
  var topP = 1.0

  @Option(help: "Choose among tokens of at least this share of the likeliest one's probability.")
  var minP = 0.0

  @Option(help: "Divide the scores of tokens that occurred already; 1 changes nothing.")
  var repetitionPenalty = 1.0

  @Option(help: "Seed of the random choices (default: another one each time).")
  var seed: UInt64?

  @Option(help: ArgumentHelp("Stop before this text. May be repeated.", valueName: "text"))
  var stop: [String] = []

  func validate() throws {
    func require(_ condition: Bool, _ message: String) throws {
      if !condition { throw ValidationError(message) }
    }
    try require(maxNewTokens >= 1, "--max-new-tokens \(maxNewTokens) is too few; write 1 or more.")
    try require(
      temperature >= 0 && temperature.isFinite, "--temperature \(temperature) is impossible; write 0 or more."
    )
    try require(topK >= 0, "--top-k \(topK) is impossible; write 0 or more.")
    try require(topP > 0 && topP <= 1, "--top-p \(topP) is no probability; write a number above 0, up to 1.")
    try require((0...1).contains(minP), "--min-p \(minP) is no share; write a number from 0 to 1.")
    try require(
      repetitionPenalty > 0 && repetitionPenalty.isFinite,
      "--repetition-penalty \(repetitionPenalty) is impossible; write a number above 0.")
    try require(!stop.contains(""), "--stop '' would stop before anything; write a text.")
  }
}
