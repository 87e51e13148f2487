import ArgumentParser

/// `graft inspect`: what a model is made of.
struct InspectCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show a model's modules, parameters, type and memory.",
    discussion: """
      With --supervision, an example of a data file is shown token by token, with the tokens that carry loss marked.

      EXAMPLE
        graft inspect Qwen2.5-0.5B-Instruct --adapter runs/medical
        graft inspect Qwen2.5-0.5B-Instruct --supervision train.json
      """)

  @OptionGroup var model: ModelOptions

  @Option(help: ArgumentHelp("Show an example of this data file token by token.", valueName: "file"))
  var supervision: String?

  @Option(help: "Which example to show, from 1.")
  var row = 1

  @OptionGroup var data: DataOptions

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard row >= 1 else { throw ValidationError("--row \(row) is no row; write 1 or more.") }
  }

  func run() async throws { throw CommandError.notConnected("inspect models") }
}
