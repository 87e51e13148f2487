import Adapters
import Datasets
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch
import Training

extension TrainerTests {
  /// Runs that transformers' Trainer and PEFT made, see Fixtures/make_trajectories.py.
  @Suite("Trajectories of transformers and PEFT")
  struct Trajectories {
    static let names = [
      "linear", "warmup-cosine-decay-clip", "accumulation", "epochs-with-remainder", "no-clip-own-betas",
      "biases-and-saved-modules", "embeddings", "loraplus",
    ]

    /// fp32 sums in another order, grown by up to twelve steps of Adam, which divides small gradients by their own size.
    private let lossTolerance = 2e-5
    private let normTolerance = 2e-4
    /// The distance that the fixtures' script allows between Trainer and a plain loop of the same engine.
    private let weightTolerance: Float = 5e-4

    @Test("all trajectories are tested")
    func complete() throws {
      let folder = Fixture.directory.appending(path: "trajectories").path(percentEncoded: false)
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder).sorted() == Self.names.sorted())
    }

    @Test("losses, gradient norms, learning rates and final weights are theirs", arguments: names)
    func trajectory(_ name: String) throws {
      let folder = Fixture.directory.appending(path: "trajectories/\(name)")
      let document = try Fixture.json("trajectories/\(name)/trajectory.json").decode(Document.self)
      let model = try PEFTModel(
        AutoModelForCausalLM.fromPretrained(tinyBase(document.base), dtype: .float32, device: testDevice))
      try model.loadAdapter(folder.appending(path: "init").path(percentEncoded: false))
      let trainer = try Trainer(
        model: model, arguments: document.trainingArguments(), trainDataset: ExampleList(document.examples))
      let recorder = Recorder()
      trainer.log = recorder
      let outcome = try trainer.train()

      #expect(outcome.steps == document.steps.count)
      try #require(recorder.steps.count == document.steps.count)
      var supervised = 0
      for (report, expected) in zip(recorder.steps, document.steps) {
        supervised += expected.supervisedTokens
        #expect(report.supervised == supervised)
        #expect(relative(report.loss, expected.loss) < lossTolerance, "step \(report.step)")
        #expect(relative(report.gradientNorm, expected.gradNorm) < normTolerance, "step \(report.step)")
        #expect(relative(report.learningRate, expected.learningRate) < 1e-12, "step \(report.step)")
      }

      let (initial, final) = (
        try Checkpoint.open(folder.appending(path: "init")),
        try Checkpoint.open(folder.appending(path: "final"))
      )
      for (key, parameter) in model.trainableParameters {
        let expected = try final.tensor("base_model.model." + key).floats()
        let start = try initial.tensor("base_model.model." + key).floats()
        let actual = try parameter.value.detached().floats()
        #expect(largestDifference(actual, expected) < weightTolerance, "\(key)")
        #expect(
          largestDifference(start, expected) > 2 * weightTolerance, "\(key) hardly moved: nothing is tested")
      }
    }

    private func relative(_ value: Double, _ expected: Double) -> Double {
      abs(value - expected) / max(abs(expected), 1e-30)
    }

    private func largestDifference(_ a: [Float], _ b: [Float]) -> Float {
      a.count == b.count ? zip(a, b).map { abs($0 - $1) }.max() ?? 0 : .infinity
    }
  }
}

/// `trajectory.json`.
private struct Document: Decodable {
  struct Row: Decodable {
    // swift-format-ignore: AlwaysUseLowerCamelCase
    var input_ids: [Int32]
    var labels: [Int32]
  }
  struct Step: Decodable {
    var supervisedTokens: Int
    var loss: Double
    var gradNorm: Double
    var learningRate: Double

    enum CodingKeys: String, CodingKey {
      case supervisedTokens = "supervised_tokens"
      case gradNorm = "grad_norm"
      case learningRate = "learning_rate"
      case loss
    }
  }

  var base: String
  var arguments: [String: JSONValue]
  var rows: [Row]
  var steps: [Step]

  var examples: [Datasets.Example] { rows.map { Datasets.Example(tokens: $0.input_ids, labels: $0.labels) } }

  /// Through the YAML reader, because the names are those of TrainingArguments.
  func trainingArguments() throws -> TrainingArguments {
    let keys =
      arguments.sorted { $0.key < $1.key } + [("model_name_or_path", "unused"), ("train_file", "unused")]
    let yaml = JSONValue.object(.init(uniqueKeysWithValues: keys)).serialized()
    var result = try RunConfiguration(yaml: yaml, name: "trajectory.json").training
    result.trainSamplingStrategy = .sequential
    result.saveStrategy = .no
    return result
  }
}
