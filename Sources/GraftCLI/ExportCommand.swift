import ArgumentParser
import Foundation
import Graft

/// `graft export`: an adapter as a GGUF file.
struct ExportCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write a LoRA adapter as a GGUF file for llama.cpp and Ollama.",
    discussion: """
      llama.cpp loads the file beside a GGUF file of the base (--lora FILE), Ollama by the line ADAPTER of a Modelfile. \
      The adapter is exact for the very weights that it was trained on: a GGUF base with gguf_packed, or the model that \
      the GGUF file was made of.

      EXAMPLE
        graft export SmolLM2-135M.gguf --adapter runs/first --output first.gguf
      """)

  @OptionGroup var model: ModelOptions

  @Option(name: .shortAndLong, help: "The GGUF file to write; it must not exist.")
  var output: String

  @Option(help: "Type of the numbers: f32, f16 or bf16.")
  var outtype = GGUFAdapter.OutType.f32

  func validate() throws {
    guard !FileManager.default.fileExists(atPath: output) else {
      throw ValidationError("--output \(output) exists; name another file.")
    }
  }

  func run() async throws {
    let (base, adapters) = try model.resolved()
    guard adapters.count == 1 else {
      throw ValidationError("Name the one adapter to export with --adapter.")
    }
    try Engine.prepare()
    let adapter = try GGUFAdapter(
      URL(fileURLWithPath: adapters[0].folder, isDirectory: true), base: PretrainedSource(base))
    try adapter.write(to: URL(fileURLWithPath: output), as: outtype)
    try Console.result(
      "wrote \(output): \(adapter.tensors.count / 2) pairs of rank \(adapter.rank) for \(adapter.architecture), in \(outtype.rawValue)"
    )
  }
}

extension GGUFAdapter.OutType: ExpressibleByArgument {}
