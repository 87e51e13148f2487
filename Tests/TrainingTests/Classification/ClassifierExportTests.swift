import Adapters
import Datasets
import Formats
import Foundation
import JSON
import Models
import Testing
import Torch
import Training

/// Where `Scripts/check_adapter.py` wants the adapters that it has PEFT load; not set in an ordinary run.
private let exportFolder = ProcessInfo.processInfo.environment["GRAFT_EXPORT_ADAPTERS"]

extension TrainerTests {
  @Suite("Classifiers for PEFT and transformers to load", .enabled(if: exportFolder != nil))
  struct ClassifierExport {
    @Test("adapters with a head, started and trained here", arguments: ClassificationFixture.names)
    func adapters(_ name: String) throws {
      let fixture = try ClassificationFixture(name)
      try RandomState.seed(17)
      let model = try PEFTModel(fixture.base(), PEFTModel.readConfiguration(fixture.folder))
      try train(model, fixture)
      let folder = try folder("classifier-\(name)")
      try model.savePretrained(folder.path)
      try writeLogits(of: model.base, fixture, to: folder)
      guard ClassificationFixture.mergeable.contains(name) else { return }
      let merged = try self.folder("classifier-merged-\(name)")
      let whole = try model.mergeAndUnload()
      try whole.savePretrained(to: merged)
      try writeLogits(of: whole, fixture, to: merged)
    }

    private func folder(_ name: String) throws -> URL {
      URL(fileURLWithPath: try #require(exportFolder)).appendingPathComponent(name)
    }

    private func train(_ model: PEFTModel, _ fixture: ClassificationFixture) throws {
      let labels = try fixture.labels
      let target: [Float] =
        labels.problemType == .singleLabel ? [1] : Array(repeating: 1, count: labels.count)
      let examples = [[5, 9, 70, 12], [33, 4, 8, 61, 7, 7, 19]].map {
        Datasets.Example(tokens: $0, target: target)
      }
      var arguments = TrainingArguments(
        outputDir: "unused", maxSteps: 4, learningRate: 2e-2, saveStrategy: .no)
      arguments.reportTo = [.none]
      let objective = SequenceClassification(labels.problemType ?? .singleLabel, labels: labels.names)
      try Trainer(
        model: model, arguments: arguments, trainDataset: ExampleList(examples), objective: objective
      ).train()
    }

    private func writeLogits(of model: any PretrainedModel, _ fixture: ClassificationFixture, to folder: URL)
      throws
    {
      var facts: [TensorToWrite] = []
      let logits = try withoutGradient { try model.logits(fixture.input) }
      for index in 0..<logits.size(0) {
        let tokens = try fixture.expected.tensor("input_ids.\(index)")
        facts.append(TensorToWrite(name: "input_ids.\(index)", tensor: tokens))
        facts.append(TensorToWrite(name: "logits.\(index)", tensor: try logits.slice(index..<index + 1)))
      }
      try Safetensors.write(facts, to: folder.appendingPathComponent("graft.safetensors"))
      let json: JSONValue = [
        "base": .string(fixture.baseName), "num_labels": .integer(try fixture.labels.count),
      ]
      try Data(json.serialized().utf8).write(to: folder.appendingPathComponent("graft.json"))
    }
  }
}
