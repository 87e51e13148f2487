import ArgumentParser

/// `graft evaluate`: loss and generation metrics on a data set.
struct EvaluateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Measure loss, perplexity and the quality of answers on a data file.",
    discussion: """
      With --generate, every prompt is answered and the answers are compared with the file's: exact match, ROUGE and \
      BLEU, by character where the text is Chinese.

      EXAMPLE
        graft evaluate Qwen2.5-0.5B-Instruct val.json --adapter runs/medical --generate --max-samples 100
      """)

  @OptionGroup var model: ModelOptions

  @Argument(help: "The data file.")
  var dataFile: String

  @OptionGroup var data: DataOptions

  @Flag(name: .customLong("generate"), help: "Answer the prompts too, and compare the answers.")
  var generates = false

  @OptionGroup var generation: GenerationOptions

  @Option(
    help: ArgumentHelp("Write every prompt, answer and reference to this JSONL file.", valueName: "file"))
  var predictions: String?

  @Option(help: "Sequences of one forward pass.")
  var batchSize = 8

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard batchSize >= 1 else {
      throw ValidationError("--batch-size \(batchSize) is too few; write 1 or more.")
    }
    guard predictions == nil || generates else { throw ValidationError("--predictions needs --generate.") }
  }

  func run() async throws { throw CommandError.notConnected("evaluate") }
}
