import ArgumentParser

/// `graft chat`: a conversation on the terminal.
struct ChatCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat",
    abstract: "Talk to a model.",
    discussion: """
      Lines that begin with a slash are commands: /adapter NAME switches adapters, /adapter none uses the base alone, \
      /system TEXT sets the system message, /clear starts again, /exit ends.

      EXAMPLE
        graft chat Qwen2.5-0.5B-Instruct --adapter medical=runs/medical --adapter legal=runs/legal
      """)

  @OptionGroup var model: ModelOptions

  @Option(help: "The system message.")
  var system: String?

  @OptionGroup var generation: GenerationOptions

  func run() async throws { throw CommandError.notConnected("chat") }
}
