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
  /// Trainings of PEFT's classifiers, see Fixtures/make_classification.py.
  @Suite("Training of classifiers")
  struct Classification {
    private struct Document: Decodable {
      struct Row: Decodable {
        // swift-format-ignore: AlwaysUseLowerCamelCase
        var input_ids: [Int32]
        var label: [Float]
      }
      // swift-format-ignore: AlwaysUseLowerCamelCase
      var learning_rate: Double
      var rows: [Row]
      var batches: [[Int]]
      var losses: [Double]

      var examples: [Datasets.Example] { rows.map { .init(tokens: $0.input_ids, target: $0.label) } }
    }

    /// - Parameter folder: where checkpoints go, and where the newest is taken up; nil keeps none.
    private func trainer(
      _ fixture: ClassificationFixture, in folder: String? = nil, tokensPerPass: Int = 0,
      packing: Bool = false
    ) throws -> (trainer: Trainer, losses: [Double]) {
      Engine.threadCount = 1
      let file = fixture.folder.appending(path: "training.json")
      let document = try JSONValue(parsing: Data(contentsOf: file)).decode(Document.self)
      var arguments = TrainingArguments()
      arguments.outputDir = folder ?? "unused"
      arguments.saveStrategy = folder == nil ? .no : .steps
      arguments.resumeFromCheckpoint = folder == nil ? nil : .latest
      arguments.maxSteps = document.batches.count
      arguments.perDeviceTrainBatchSize = document.batches[0].count
      arguments.trainSamplingStrategy = .sequential
      arguments.learningRate = document.learning_rate
      arguments.lrSchedulerType = "constant"
      arguments.maxGradNorm = 0
      arguments.maxTokensPerPass = tokensPerPass
      arguments.packing = packing
      arguments.evalStrategy = folder == nil ? .no : .steps
      arguments.evalSteps = 5
      arguments.metricForBestModel = folder == nil ? nil : metric(fixture)
      let model = try fixture.load()
      let labels = try fixture.labels
      let trainer = try Trainer(
        model: model, arguments: arguments, trainDataset: ExampleList(document.examples),
        evalDataset: folder == nil ? nil : ExampleList(document.examples),
        objective: SequenceClassification(try #require(labels.problemType), labels: labels.names))
      return (trainer, document.losses)
    }

    private func metric(_ fixture: ClassificationFixture) -> String {
      fixture.facts["problem_type"] == "regression" ? "eval_spearman" : "eval_accuracy"
    }

    @Test("losses and final weights are PEFT's", arguments: ClassificationFixture.trained)
    func trajectory(_ name: String) throws {
      let fixture = try ClassificationFixture(name)
      let (trainer, losses) = try trainer(fixture)
      let recorder = Recorder()
      trainer.log = recorder
      try trainer.train()
      #expect(losses.count >= 10)
      try #require(recorder.steps.count == losses.count)
      for (report, expected) in zip(recorder.steps, losses) {
        // fp32 sums in another order, grown by ten steps of Adam.
        #expect(abs(report.loss - expected) < 2e-5 * max(abs(expected), 1), "step \(report.step)")
      }
      #expect(recorder.steps.last?.supervised == 2 * losses.count)
      #expect(recorder.steps.last?.supervisedUnit == "examples")
      let final = try SafetensorsFile(fixture.folder.appending(path: "training.safetensors"))
      let folder = try TemporaryFolder()
      try trainer.model.savePretrained(folder.path(""))
      let found = try SafetensorsFile(folder.url.appending(path: "adapter_model.safetensors"))
      for name in final.tensorNames {
        let error = try (found.tensor(name) - final.tensor(name)).absolute().max().item()
        #expect(error < 5e-4, "\(name): \(error)")
      }
    }

    @Test(
      "a batch in several passes, or packed, makes the same steps",
      arguments: ["lora-llama", "lora-qwen2", "lora-tied"])
    func passes(_ name: String) throws {
      let fixture = try ClassificationFixture(name)
      func losses(tokensPerPass: Int = 0, packing: Bool = false) throws -> [Double] {
        let (trainer, _) = try trainer(fixture, tokensPerPass: tokensPerPass, packing: packing)
        let recorder = Recorder()
        trainer.log = recorder
        try trainer.train()
        return recorder.steps.map(\.loss)
      }
      let whole = try losses()
      for (one, other) in zip(whole, try losses(tokensPerPass: 1)) { #expect(abs(one - other) < 2e-5) }
      // Packs put other rows together, so that losses differ; that of nothing but finite numbers remains.
      #expect(try losses(packing: true).allSatisfy { $0.isFinite && $0 > 0 })
    }

    @Test(
      "an interrupted run goes on to the same bits",
      arguments: ["lora-llama", "ia3-llama", "prompt-tuning-llama"])
    func resuming(_ name: String) throws {
      let fixture = try ClassificationFixture(name)
      let folder = try TemporaryFolder()
      let (whole, _) = try trainer(fixture, in: folder.path("whole"))
      let recorder = Recorder()
      whole.log = recorder
      try whole.train()
      let parts = folder.path("parts")
      for stop in [4, 9] {
        let (trainer, _) = try trainer(fixture, in: parts)
        trainer.shouldStop = { [unowned trainer] in trainer.state.globalStep >= stop }
        #expect(throws: TrainingInterrupted.self) { try trainer.train() }
      }
      let (resumed, _) = try trainer(fixture, in: parts)
      let rest = Recorder()
      resumed.log = rest
      try resumed.train()
      #expect(rest.steps.map(\.loss) == recorder.steps.dropFirst(9).map(\.loss))
      #expect(try resumed.weights == whole.weights)
      #expect(resumed.state.bestMetric == whole.state.bestMetric)
      // Another label set is another run.
      let (other, _) = try trainer(fixture, in: parts)
      let objective = SequenceClassification(.singleLabel, labels: ["a", "b", "c"])
      let changed = try Trainer(
        model: other.model, arguments: other.arguments, trainDataset: other.trainDataset,
        evalDataset: other.evalDataset, objective: objective)
      if name != "ia3-llama" {
        #expect(
          message { try changed.prepare() }.contains("labels LABEL_0, LABEL_1, LABEL_2, this one has a, b, c")
        )
      }
    }

    @Test("evaluations measure labels, and the best model goes by them")
    func evaluations() throws {
      let fixture = try ClassificationFixture("lora-llama")
      let folder = try TemporaryFolder()
      let (trainer, _) = try trainer(fixture, in: folder.path("run"))
      let recorder = Recorder()
      trainer.log = recorder
      try trainer.train()
      #expect(recorder.evaluations.count == 2)
      for report in recorder.evaluations {
        #expect(Array(report.metrics.keys) == ["accuracy", "f1_macro"])
        #expect((0...1).contains(try #require(report.metrics["accuracy"])))
      }
      #expect(trainer.state.bestMetric == recorder.evaluations.compactMap { $0.metrics["accuracy"] }.max())

      var arguments = trainer.arguments
      arguments.metricForBestModel = "eval_bleu"
      arguments.outputDir = folder.path("other")
      let wrong = try Trainer(
        model: trainer.model, arguments: arguments, trainDataset: trainer.trainDataset,
        evalDataset: trainer.evalDataset, objective: trainer.objective)
      #expect(
        message { try wrong.prepare() }.contains("it gives `eval_accuracy`, `eval_f1_macro`, `eval_loss`"))
    }

    @Test("less squared error is better, more correlation is")
    func direction() {
      var arguments = TrainingArguments()
      for (metric, isGreater) in [
        ("mse", false), ("eval_loss", false), ("accuracy", true), ("pearson", true),
      ] {
        arguments.metricForBestModel = metric
        #expect(arguments.bestMetricIsGreater == isGreater, "\(metric)")
      }
    }

    @Test(
      "metrics are scikit-learn's and SciPy's",
      arguments: [
        ("single_label_classification", SequenceClassification.ProblemType.singleLabel),
        ("multi_label_classification", .multiLabel), ("regression", .regression),
        ("regression_of_two", .regression),
      ])
    func metrics(_ name: String, _ problem: SequenceClassification.ProblemType) throws {
      let facts = try #require(Fixture.json("classification_metrics.json")[name])
      var predictions = EvaluationPredictions()
      predictions.scores = try #require(facts["scores"]).decode([[Float]].self)
      predictions.targets = try #require(facts["targets"]).decode([[Float]].self)
      let objective = SequenceClassification(problem, labels: ["a", "b", "c", "d"])
      let found = objective.metrics(predictions)
      #expect(Array(found.keys) == objective.metricNames)
      for (metric, value) in found {
        let wanted = try #require(facts[metric]?.doubleValue)
        // Predictions are fp32 here, fp64 there.
        #expect(abs(value - wanted) < 1e-6, "\(metric): \(value), \(wanted)")
      }
    }

    @Test("extreme scores make no infinite loss")
    func extremes() throws {
      let fixture = try ClassificationFixture("lora-qwen2")
      let model = try fixture.load()
      for (key, parameter) in model.trainableParameters where key == "score.weight" {
        try withoutGradient { try parameter.value.copyInPlace(parameter.value.detached() * 1e4) }
      }
      let objective = SequenceClassification(.multiLabel, labels: try fixture.labels.names)
      let batch = Batch([.init(tokens: [5, 6, 7], target: [0, 1, 0, 1])])
      let sum = try objective.lossSum(model, batch)
      #expect(try sum.item().isFinite)
      try sum.backward()
      let gradient = try #require(model.trainableParameters.first { $0.key == "score.weight" }).parameter
        .value.gradient
      #expect(try #require(gradient).isFinite().to(.float32).min().item() == 1)
    }
  }
}
