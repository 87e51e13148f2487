import ArgumentParser
import Training

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// `graft`: the program. Each command is a thin shell over the library in a file of its own.
@main
struct GraftCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "graft",
    abstract: "Fine-tune language models with LoRA and other adapters.",
    discussion: """
      Results go to standard output, progress and messages to standard error. A command that fails prints one \
      paragraph that says what is wrong, where, and what to do, and exits with 1; wrong usage exits with 64, Ctrl-C \
      with 130.

      EXAMPLE
        graft data convert rows.csv --train 5000 --validation 500
        graft train config.yaml --set learning_rate=1e-4
        graft chat model --adapter runs/first
      """,
    version: "0.1.0",
    subcommands: [
      DataCommand.self, InspectCommand.self, PlanCommand.self, TrainCommand.self, EvaluateCommand.self,
      GenerateCommand.self, ChatCommand.self, ClassifyCommand.self, MergeCommand.self, CombineCommand.self,
      ConvertCommand.self,
      EngineCommand.self, DebugCommand.self,
    ])

  static func main() async {
    // A reader that goes away (`graft inspect … | head`) is found out when writing, not by a signal: a training run
    // must outlive the terminal's pipe.
    signal(SIGPIPE, SIG_IGN)
    // Likewise a file that may not grow further is a failed write with an error, not the end of the process.
    signal(SIGXFSZ, SIG_IGN)
    MappedFileFault.install()
    do {
      var command = try parseAsRoot()
      if var command = command as? AsyncParsableCommand {
        try await command.run()
      } else {
        try command.run()
      }
    } catch {
      ErrorReport.exit(for: error)
    }
  }
}
