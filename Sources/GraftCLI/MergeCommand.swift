import ArgumentParser

/// `graft merge`: an adapter into its base.
struct MergeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "merge",
    abstract: "Merge an adapter into its base and write the model.",
    discussion: """
      The result is a Hugging Face folder in the base's type. Its logits are then compared with those of base and \
      adapter; a difference beyond rounding is a failure.

      EXAMPLE
        graft merge Qwen2.5-0.5B-Instruct --adapter runs/medical --output merged
      """)

  @OptionGroup var model: ModelOptions

  @Option(name: .shortAndLong, help: "The folder to write; it must not exist or be empty.")
  var output: String

  @Option(help: "Largest size of one weight file in GB.")
  var maxShardSize = 5.0

  @Flag(help: "Print the outcome as JSON.")
  var json = false

  func validate() throws {
    guard model.adapter.count == 1 else {
      throw ValidationError("Name the one adapter to merge with --adapter.")
    }
    guard maxShardSize > 0 else { throw ValidationError("--max-shard-size \(maxShardSize) is no size.") }
  }

  func run() async throws { throw CommandError.notConnected("merge adapters") }
}
