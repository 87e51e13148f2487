import Adapters
import Datasets
import Foundation
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch
import Training

/// The tests of the trainer, one at a time: they share the engine's random state.
@Suite("Trainer", .serialized)
enum TrainerTests {}

/// The tiny random models that Tests/ModelsTests/Fixtures holds.
func tinyBase(_ name: String) -> String {
  Fixture.directory.deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "ModelsTests/Fixtures/\(name)").path(percentEncoded: false)
}

/// Rows of 4 to 19 random tokens, of which a prompt carries no loss.
func randomRows(_ count: Int, seed: UInt64 = 7, vocabulary: Int32 = 80) -> [Datasets.Example] {
  var generator = ShuffleGenerator(seed: seed)
  return (0..<count).map { _ in
    let length = 4 + Int(generator.below(16))
    let tokens = (0..<length).map { _ in 3 + Int32(generator.below(UInt64(vocabulary - 3))) }
    let prompt = Int(generator.below(UInt64(length - 1)))
    return Datasets.Example(
      tokens: tokens, labels: tokens.indices.map { $0 < prompt ? ignoreIndex : tokens[$0] })
  }
}

/// A run of a tiny model that a test can make as often as it likes, always the same.
struct TinyRun {
  var base = "llama-grouped-query"
  var dtype = DType.float32
  var adapter = LoRAConfig(
    r: 4, loraAlpha: 8, targetModules: ["q_proj", "v_proj", "down_proj"], initLoRAWeights: .random)
  /// Another method than ``adapter``.
  var method: (any AdapterConfiguration)?
  var rows = randomRows(24)
  var validation: [Datasets.Example]?
  var arguments: TrainingArguments

  /// - Parameter folder: `output_dir`; nil saves nothing.
  init(in folder: String?, steps: Int = 10, learningRate: Double = 1e-2) {
    arguments = TrainingArguments()
    arguments.outputDir = folder ?? "unused"
    arguments.saveStrategy = folder == nil ? .no : .steps
    arguments.maxSteps = steps
    arguments.learningRate = learningRate
    arguments.perDeviceTrainBatchSize = 4
    arguments.maxLength = 64
  }

  func model() throws -> PEFTModel {
    // Products of 32 columns: waking a second thread takes longer than what it would do.
    Engine.threadCount = 1
    try RandomState.seed(99)
    return try PEFTModel(
      AutoModelForCausalLM.fromPretrained(tinyBase(base), dtype: dtype, device: testDevice), method ?? adapter
    )
  }

  /// A fresh model and a trainer for it.
  func trainer() throws -> Trainer {
    try Trainer(
      model: model(), arguments: arguments, trainDataset: ExampleList(rows),
      evalDataset: validation.map(ExampleList.init))
  }

  /// Runs until `step` and is interrupted there.
  @discardableResult
  func interrupted(after step: Int, log: (any MetricsSink)? = nil) throws -> TrainingInterrupted {
    let trainer = try trainer()
    trainer.log = log
    trainer.shouldStop = { [unowned trainer] in trainer.state.globalStep >= step }
    return try #require(throws: TrainingInterrupted.self) { try trainer.train() }
  }
}

extension Trainer {
  /// Every trained element, by name.
  var weights: [String: [Float]] {
    get throws {
      try Dictionary(
        uniqueKeysWithValues: model.trainableParameters.map {
          ($0.key, try $0.parameter.value.detached().floats())
        })
    }
  }

  /// Numbers of the checkpoints in `output_dir`.
  var savedSteps: [Int] { Trainer.checkpoints(in: arguments.outputDir).map(\.step) }
}

/// Keeps what a run reports.
final class Recorder: MetricsSink {
  var steps: [StepReport] = []
  var records: [StepReport] = []
  var skipped: [SkippedStepReport] = []
  var evaluations: [EvaluationReport] = []
  var isFinished = false

  func step(_ report: StepReport) { steps.append(report) }
  func record(_ report: StepReport) { records.append(report) }
  func record(_ report: SkippedStepReport) { skipped.append(report) }
  func record(_ report: EvaluationReport) { evaluations.append(report) }
  func finish() { isFinished = true }
}

/// The message of the error that `body` throws.
func message(_ body: () throws -> Void, sourceLocation: SourceLocation = #_sourceLocation) -> String {
  do {
    try body()
  } catch {
    return "\(error)"
  }
  Issue.record("nothing was thrown", sourceLocation: sourceLocation)
  return ""
}
