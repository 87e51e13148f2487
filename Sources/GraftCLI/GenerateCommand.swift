import ArgumentParser

/// `graft generate`: one answer.
struct GenerateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Answer a prompt.",
    discussion: """
      The prompt goes through the model's chat template unless --raw is given; `-` reads it from standard input. The \
      answer is printed while it is made.

      EXAMPLE
        graft generate Qwen2.5-0.5B-Instruct "What helps against a cough?" --adapter runs/medical
        graft generate model "Once upon a time" --raw --temperature 0.8 --seed 1
      """)

  @OptionGroup var model: ModelOptions

  @Argument(help: "The prompt; - reads standard input.")
  var prompt: String

  @Option(help: "The system message.")
  var system: String?

  @Flag(help: "Continue the prompt as it is, without the chat template.")
  var raw = false

  @OptionGroup var generation: GenerationOptions

  @Flag(help: "Print JSON when the answer is complete.")
  var json = false

  func validate() throws {
    guard !(raw && system != nil) else { throw ValidationError("--system has no place with --raw.") }
    guard !prompt.isEmpty else { throw ValidationError("The prompt is empty.") }
  }

  func run() async throws { throw CommandError.notConnected("generate text") }
}
