import Adapters
import Formats
import Foundation
import JSON
import Models
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
    for _ in 0..<4 {
      try loss(model.base, adapter.sequences).backward()
      for (_, parameter) in model.trainableParameters {
        try parameter.value.addInPlace(#require(parameter.value.gradient), scale: -0.3)
        try parameter.value.setGradient(nil)
      }
    }
    try model.savePretrained(folder.path)

    var facts: [TensorToWrite] = []
    for (index, tokens) in try adapter.sequences.enumerated() {
      let logits = try withoutGradient { try model.base.logits(ModelInput([tokens])) }
      facts.append(TensorToWrite(name: "input_ids.\(index)", tensor: try Tensor(tokens.map(Int64.init))))
      facts.append(TensorToWrite(name: "logits.\(index)", tensor: logits))
    }
    try Safetensors.write(facts, to: folder.appendingPathComponent("graft.safetensors"))
    try Data(JSONValue.object(["base": .string(adapter.baseName)]).serialized().utf8)
      .write(to: folder.appendingPathComponent("graft.json"))
  }
}
