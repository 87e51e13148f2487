import ArgumentParser
import Training

/// `graft train`: a run.
struct TrainCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "train",
    abstract: "Train an adapter as a YAML file says.",
    discussion: """
      The file's keys have the names of transformers' TrainingArguments and PEFT's LoraConfig; docs/configuration.md \
      lists them. Ctrl-C saves a checkpoint and stops; --resume goes on from the newest one.

      EXAMPLE
        graft train config.yaml --set learning_rate=1e-4 --set r=16
        graft train config.yaml --resume
      """)

  @Argument(help: "The YAML configuration.")
  var configurationFile: String

  @Option(
    name: .customLong("set"), parsing: .singleValue,
    help: ArgumentHelp("Override a key of the file. May be repeated.", valueName: "key=value"))
  var overrides: [String] = []

  @Flag(help: "Continue from the newest checkpoint in output_dir.")
  var resume = false

  @Flag(help: "Check the configuration, print it with all its defaults, and stop.")
  var dryRun = false

  @Flag(help: "Print the outcome as JSON.")
  var json = false

  @Flag(name: .shortAndLong, help: "Say more.")
  var verbose = false

  func run() async throws {
    var run = try RunConfiguration(contentsOf: configurationFile, overrides: overrides)
    if resume { run.training.resumeFromCheckpoint = .latest }
    try run.data.checkFiles()
    if dryRun {
      try Console.result(run.yaml(), terminator: "")
      return
    }
    throw CommandError.notConnected("train")
  }
}
