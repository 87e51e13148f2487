import ArgumentParser
import Foundation
import Graft

/// `graft debug`: what comparisons with other programs need; not shown in the help.
struct DebugCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "debug", abstract: "Raw values, for comparing with other programs.", shouldDisplay: false,
    subcommands: [DebugLogitsCommand.self, DebugTokenizeCommand.self])
}

/// `graft debug logits`: the logits of token sequences, read as one ragged batch.
struct DebugLogitsCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "logits",
    abstract: "Write the logits of token sequences to a safetensors file.",
    discussion: """
      EXAMPLE
        graft debug logits SmolLM2-135M --tokens tokens.json --output logits.safetensors --dtype float32
      """)

  @OptionGroup var model: ModelOptions

  @Option(help: "A JSON file with a list of lists of tokens.")
  var tokens: String

  @Option(
    help:
      "The safetensors file to write: `logits.I` of sequence I, fp32 [tokens, vocabulary], of a classifier [1, labels]."
  )
  var output: String

  func run() async throws {
    let text = try Data(contentsOf: URL(fileURLWithPath: tokens))
    let sequences = try JSONValue(parsing: text).decode([[Int32]].self)
    guard !sequences.isEmpty, sequences.allSatisfy({ !$0.isEmpty }) else {
      throw CommandError("\(tokens) holds an empty sequence", remedy: "write lists of tokens")
    }
    let base = try model.load().model.base
    let input = try ModelInput(sequences, device: base.device)
    let logits = try withoutGradient { try base.logits(input).to(.float32) }
    let isPooled = base.task == .sequenceClassification
    try Safetensors.write(
      try input.layout.sequences.enumerated().map { index, range in
        TensorToWrite(
          name: "logits.\(index)", tensor: try logits.slice(isPooled ? index..<index + 1 : range))
      }, to: URL(fileURLWithPath: output))
  }
}

/// `graft debug tokenize`: how long one thread takes to tokenize a file line by line.
struct DebugTokenizeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "tokenize",
    abstract: "Tokenize a text file line by line on one thread, and say how long it took.",
    discussion: """
      EXAMPLE
        graft debug tokenize SmolLM2-135M --file text.txt --json
      """)

  @Argument(help: "The model's folder or GGUF file.")
  var model: String

  @Option(help: "The text file.")
  var file: String

  @Flag(help: "Print JSON.")
  var json = false

  private struct Result: Encodable {
    var tokens: Int
    var seconds: Double
  }

  func run() async throws {
    let tokenizer = try AutoTokenizer.fromPretrained(model).tokenizer
    let lines = try String(contentsOfFile: file, encoding: .utf8).split(separator: "\n").map(String.init)
    let start = ContinuousClock.now
    let tokens = lines.reduce(0) { $0 + tokenizer.encode($1, addSpecialTokens: false).count }
    let result = Result(tokens: tokens, seconds: start.duration(to: .now) / .seconds(1))
    if json {
      try Console.result(result)
    } else {
      try Console.result("\(result.tokens) tokens in \(result.seconds) s")
    }
  }
}
