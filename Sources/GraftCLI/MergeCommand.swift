import ArgumentParser
import Formats
import Foundation
import Graft
import Torch
import Training

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

  @Flag(
    help:
      "Quantize merged layers anew, in the form that the base's have (bitsandbytes), and print what that costs."
  )
  var requantize = false

  @Flag(help: "Print the outcome as JSON.")
  var json = false

  func validate() throws {
    guard model.adapter.count == 1 else {
      throw ValidationError("Name the one adapter to merge with --adapter.")
    }
    guard maxShardSize > 0 else { throw ValidationError("--max-shard-size \(maxShardSize) is no size.") }
  }

  func run() async throws {
    let merge = AdapterMerge(
      base: model.model, adapter: model.namedAdapters[0].folder, dtype: model.compute.baseType,
      device: try model.compute.prepare(),
      maxShardSize: ShardSize(byteCount: Int(maxShardSize * 1e9)),
      quantization: model.compute.quantization, requantizes: requantize)
    let report = try merge.write(to: URL(fileURLWithPath: output, isDirectory: true))
    let bound =
      report.requantized
      ? "(what quantizing the merged layers anew costs)" : "(at most \(report.tolerance) is rounding)"
    if json {
      try Console.result(report)
    } else {
      try Console.result(
        """
        wrote \(report.output) in \(report.dtype)
        drift \(String(format: "%.2e", report.drift)) of the logits \(bound)
        the adapter itself changes them by \(String(format: "%.2e", report.adapterEffect))
        """)
    }
  }
}
