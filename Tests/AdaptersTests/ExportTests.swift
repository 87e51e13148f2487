import Adapters
import Formats
import Foundation
import JSON
import Models
import TestSupport
import Testing
import Torch

/// Where `Scripts/check_adapter.py` wants the adapters that it has PEFT load; not set in an ordinary run.
private let exportFolder = ProcessInfo.processInfo.environment["GRAFT_EXPORT_ADAPTERS"]

@Suite struct ExportTests {
  @Test(
    "adapters of every setting, started and trained here, are written for PEFT to load",
    .enabled(if: exportFolder != nil), arguments: adapterFixtures)
  func export(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let folder = URL(fileURLWithPath: try #require(exportFolder)).appendingPathComponent(name)
    try RandomState.seed(17)
    let model = try PEFTModel(base(adapter.baseName), PEFTModel.readConfiguration(fixture(name)))
    for _ in 0..<4 { try descend(model, adapter.sequences, by: 0.05) }
    try model.savePretrained(folder.path)
    try writeLogits(of: model, adapter.sequences, baseName: adapter.baseName, to: folder)
  }

  @Test("models trained in full are written for transformers to load", .enabled(if: exportFolder != nil))
  func exportModels() throws {
    let configurations: [(name: String, base: String, FullFineTuningConfig)] = [
      ("full-llama", "llama-grouped-query", .init()), ("full-tied", "qwen2-tied", .init()),
      ("full-top-layer", "qwen2-grouped-query", .init(numTrainableLayers: 1)),
    ]
    for (name, baseName, configuration) in configurations {
      let folder = URL(fileURLWithPath: try #require(exportFolder)).appendingPathComponent(name)
      let model = try PEFTModel(base(baseName), configuration)
      let sequences: [[Int32]] = [[5, 9, 70, 12], [33, 4, 8, 61, 7, 7, 19]]
      for _ in 0..<4 { try descend(model, sequences, by: 0.02) }
      try model.savePretrained(folder.path)
      try writeLogits(of: model, sequences, baseName: baseName, to: folder)
    }
  }

  private func writeLogits(of model: PEFTModel, _ sequences: [[Int32]], baseName: String, to folder: URL)
    throws
  {
    var facts: [TensorToWrite] = []
    for (index, tokens) in sequences.enumerated() {
      let logits = try withoutGradient { try model.base.logits(ModelInput([tokens], device: testDevice)) }
      facts.append(TensorToWrite(name: "input_ids.\(index)", tensor: try Tensor(tokens.map(Int64.init))))
      facts.append(TensorToWrite(name: "logits.\(index)", tensor: logits))
    }
    try Safetensors.write(facts, to: folder.appendingPathComponent("graft.safetensors"))
    try Data(JSONValue.object(["base": .string(baseName)]).serialized().utf8)
      .write(to: folder.appendingPathComponent("graft.json"))
  }
}
