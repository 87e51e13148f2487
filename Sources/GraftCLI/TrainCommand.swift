import ArgumentParser
import Foundation
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

  @Flag(
    help:
      "Measure where the steps' time goes, print it, and leave profile.folded (for flame graphs) in output_dir."
  )
  var profile = false

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
    Interruption.install()
    defer { Interruption.uninstall() }
    var training = TrainingRun(run)
    training.message = { Console.message($0) }
    training.status = Console.status
    training.profiles = profile
    training.shouldStop = { Interruption.isRequested }
    let summary: TrainingRun.Summary
    do {
      summary = try await training.run()
    } catch let interrupted as TrainingInterrupted {
      throw Interrupted(message: "\(interrupted)")
    }
    if json {
      try Console.result(summary)
    } else {
      try Console.result(summary.description)
    }
  }
}

extension TrainingRun.Summary: CustomStringConvertible {
  /// What a person wants to know after a run.
  public var description: String {
    var lines = [
      "trained \(outcome.steps) steps in \(Self.duration(outcome.seconds)), "
        + "\(Int(outcome.tokensPerSecond)) tokens/s, mean loss \(Self.number(outcome.trainLoss))"
        + (outcome.stoppedEarly ? "; stopped early" : "")
    ]
    if let evaluationLoss { lines.append("validation loss \(Self.number(evaluationLoss))") }
    for (name, value) in (evaluationMetrics ?? [:]).sorted(by: { $0.key < $1.key }) {
      lines.append("validation \(name) \(Self.number(value))")
    }
    if let best = outcome.bestModelCheckpoint { lines.append("best checkpoint \(best)") }
    lines.append("adapter \(adapter)")
    if let profile { lines.append(profile.description) }
    return lines.joined(separator: "\n")
  }

  private static func number(_ value: Double) -> String { String(format: "%.4f", value) }

  private static func duration(_ seconds: Double) -> String {
    let whole = Int(seconds.rounded())
    return whole < 60 ? "\(whole) s" : "\(whole / 60) min \(whole % 60) s"
  }
}
