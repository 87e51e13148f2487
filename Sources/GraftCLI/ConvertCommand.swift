import Adapters
import ArgumentParser
import Foundation
import Graft
import Models

/// `graft convert`: an adapter that works on a changed base into one on the untouched base.
struct ConvertCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Write a PiSSA, OLoRA or LoftQ adapter as a plain LoRA.",
    discussion: """
      Adapters that started in the weight (init_lora_weights pissa, olora, loftq) change the base again whenever they \
      are loaded. As a plain LoRA of twice the rank they need not, and work beside others on the untouched base.

      EXAMPLE
        graft convert SmolLM2-135M --adapter runs/pissa --output runs/plain
      """)

  @OptionGroup var model: ModelOptions

  @Option(name: .shortAndLong, help: "The folder to write; it must not exist or be empty.")
  var output: String

  func validate() throws {
    guard model.adapter.count == 1 else {
      throw ValidationError("Name the one adapter to convert with --adapter.")
    }
    let found = try? FileManager.default.contentsOfDirectory(atPath: output)
    guard found?.isEmpty ?? true else {
      throw ValidationError("--output \(output) is not empty; name another folder.")
    }
  }

  func run() async throws {
    let device = try model.compute.prepare()
    let adapted = try AutoPEFTModel.fromPretrained(
      PretrainedSource(model.model), adapters: [("default", model.namedAdapters[0].folder)],
      dtype: model.compute.baseType, device: device)
    try adapted.savePlainLoRA("default", to: URL(fileURLWithPath: output, isDirectory: true))
    let settings = adapted.configuration("default") as? LoRAConfig
    try Console.result("wrote \(output): a plain LoRA of rank \(2 * (settings?.r ?? 0))")
  }
}
