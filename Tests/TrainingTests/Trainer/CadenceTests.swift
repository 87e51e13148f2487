import Adapters
import Datasets
import Foundation
import Testing
import Torch
import Training

extension TrainerTests {
  /// When runs report, evaluate, save and stop. Expectations are what transformers' Trainer does, except where a comment
  /// says otherwise.
  @Suite("Cadence")
  struct Cadence {
    /// 24 rows in batches of 4: an epoch is 6 steps.
    private func outcome(
      _ run: TinyRun, metrics: [Double]? = nil
    ) throws -> (recorder: Recorder, trainer: Trainer, outcome: Trainer.Outcome) {
      let trainer = try run.trainer()
      let recorder = Recorder()
      trainer.log = recorder
      if let metrics {
        var next = 0
        trainer.computeMetrics = { _ in
          defer { next += 1 }
          return ["score": metrics[next]]
        }
      }
      return (recorder, trainer, try trainer.train())
    }

    /// A run that evaluates every second step on metrics that a test makes up.
    private func scored(in folder: TemporaryFolder, _ change: (inout TinyRun) -> Void = { _ in }) -> TinyRun {
      var run = TinyRun(in: folder.path("run"), steps: 10)
      run.validation = randomRows(2, seed: 2)
      run.arguments.evalStrategy = .steps
      run.arguments.evalSteps = 2
      run.arguments.saveSteps = 2
      run.arguments.metricForBestModel = "score"
      change(&run)
      return run
    }

    // MARK: Length

    @Test(
      "epochs become steps, the last window of an epoch may be short",
      arguments: [
        // (rows, batch, accumulation, epochs, drop last, steps)
        (24, 4, 1, 2.0, false, 12), (25, 4, 1, 2.0, false, 14), (25, 4, 1, 2.0, true, 12),
        (24, 4, 4, 2.0, false, 4), (24, 4, 4, 1.5, false, 3), (24, 4, 1, 0.5, false, 3),
        (24, 100, 1, 3.0, false, 3), (11, 2, 2, 4.0, false, 12), (24, 4, 1, 0.01, false, 1),
      ])
    func length(rows: Int, batch: Int, accumulation: Int, epochs: Double, drops: Bool, steps: Int) throws {
      var run = TinyRun(in: nil, steps: -1)
      run.rows = randomRows(rows)
      run.arguments.perDeviceTrainBatchSize = batch
      run.arguments.gradientAccumulationSteps = accumulation
      run.arguments.numTrainEpochs = epochs
      run.arguments.dataloaderDropLast = drops
      let (recorder, _, outcome) = try outcome(run)
      #expect(outcome.steps == steps)
      #expect(recorder.steps.map(\.step) == Array(1...steps))
      #expect(recorder.steps.allSatisfy { $0.totalSteps == steps })
      if epochs == epochs.rounded() { #expect(outcome.epochs == epochs) }
    }

    @Test("max_steps wins over epochs and ends within one")
    func maxSteps() throws {
      var run = TinyRun(in: nil, steps: 8)
      run.arguments.numTrainEpochs = 1
      let outcome = try outcome(run).outcome
      #expect(outcome.steps == 8)
      #expect(abs(outcome.epochs - 8.0 / 6) < 1e-12)
    }

    @Test("every row is seen once an epoch, in another order each time")
    func shuffling() throws {
      final class Log: Objective {
        nonisolated(unsafe) var seen: [[Int32]] = []
        let inner = CausalLanguageModeling()
        func weight(of batch: Batch) -> Int { inner.weight(of: batch) }
        func lossSum(_ model: PEFTModel, _ batch: Batch) throws -> Tensor {
          for (start, end) in zip(batch.offsets, batch.offsets.dropFirst()) {
            seen.append(Array(batch.tokens[Int(start)..<Int(end)]))
          }
          return try inner.lossSum(model, batch)
        }
      }
      let run = TinyRun(in: nil, steps: 12)
      let log = Log()
      let trainer = try Trainer(
        model: run.model(), arguments: run.arguments, trainDataset: ExampleList(run.rows), objective: log)
      _ = try trainer.train()
      let (first, second) = (Array(log.seen[..<24]), Array(log.seen[24...]))
      #expect(Set(first) == Set(run.rows.map(\.tokens)))
      #expect(Set(second) == Set(first))
      #expect(first != second)
      #expect(first != run.rows.map(\.tokens))
    }

    // MARK: Logging

    @Test("records come at the logging steps, with means since the last one")
    func logging() throws {
      var run = TinyRun(in: nil, steps: 10)
      run.arguments.loggingSteps = 4
      run.arguments.loggingFirstStep = true
      let (recorder, _, outcome) = try outcome(run)
      #expect(recorder.records.map(\.step) == [1, 4, 8])
      let losses = recorder.steps.map(\.loss)
      #expect(recorder.records[0].loss == losses[0])
      #expect(abs(recorder.records[1].loss - losses[1..<4].reduce(0, +) / 3) < 1e-12)
      #expect(abs(recorder.records[2].loss - losses[4..<8].reduce(0, +) / 4) < 1e-12)
      #expect(abs(outcome.trainLoss - losses.reduce(0, +) / 10) < 1e-12)
      #expect(recorder.isFinished)
    }

    @Test("logging by epoch also records an epoch that the run ends within")
    func epochLogging() throws {
      var run = TinyRun(in: nil, steps: 8)
      run.arguments.loggingStrategy = .epoch
      #expect(try outcome(run).recorder.records.map(\.step) == [6, 8])
      run.arguments.loggingStrategy = .no
      #expect(try outcome(run).recorder.records.isEmpty)
    }

    // MARK: Evaluation

    @Test("evaluation by steps, from the start, after a delay, and at the end")
    func evaluation() throws {
      var run = TinyRun(in: nil, steps: 10)
      run.validation = randomRows(5, seed: 2)
      run.arguments.evalStrategy = .steps
      run.arguments.evalSteps = 4
      #expect(try outcome(run).recorder.evaluations.map(\.step) == [4, 8, 10])
      run.arguments.evalOnStart = true
      #expect(try outcome(run).recorder.evaluations.map(\.step) == [0, 4, 8, 10])
      run.arguments.evalDelay = 5
      #expect(try outcome(run).recorder.evaluations.map(\.step) == [0, 8, 10])
      run.arguments.evalOnStart = false
      run.arguments.evalSteps = nil
      run.arguments.evalDelay = 0
      run.arguments.loggingSteps = 5
      #expect(try outcome(run).recorder.evaluations.map(\.step) == [5, 10])
      run.arguments.evalSteps = 0.3
      #expect(try outcome(run).recorder.evaluations.map(\.step) == [3, 6, 9, 10])
      run.arguments.evalStrategy = .epoch
      #expect(try outcome(run).recorder.evaluations.map(\.step) == [6, 10])
      run.arguments.evalDelay = 1.5
      #expect(try outcome(run).recorder.evaluations.map(\.step) == [10])
    }

    @Test("the evaluation loss is the mean over tokens, however they are batched")
    func evaluationLossByTokens() throws {
      let run = TinyRun(in: nil)
      let model = try run.model()
      let rows = ExampleList(randomRows(7, seed: 2))
      let (whole, tokens) = try evaluationLoss(model, rows, batchSize: 7)
      let (split, again) = try evaluationLoss(model, rows, batchSize: 2)
      #expect(abs(whole - split) < 1e-6 * whole)
      #expect(tokens == again)
      #expect(tokens == rows.examples.reduce(0) { $0 + $1.supervisedTokens })
    }

    // MARK: Saving

    @Test("checkpoints by steps, by fraction, by epoch, never; the last step is always one")
    func saving() throws {
      let folder = try TemporaryFolder()
      func saved(_ name: String, _ change: (inout TrainingArguments) -> Void) throws -> [Int] {
        var run = TinyRun(in: folder.path(name), steps: 10)
        change(&run.arguments)
        return try outcome(run).trainer.savedSteps
      }
      #expect(try saved("steps") { $0.saveSteps = 4 } == [4, 8, 10])
      #expect(try saved("fraction") { $0.saveSteps = 0.3 } == [3, 6, 9, 10])
      #expect(try saved("epoch") { $0.saveStrategy = .epoch } == [6, 10])
      #expect(try saved("no") { $0.saveStrategy = .no } == [])
      #expect(!FileManager.default.fileExists(atPath: folder.path("no")))
    }

    @Test("save_only_model leaves out what resuming needs")
    func onlyModel() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 1)
      run.arguments.saveOnlyModel = true
      let trainer = try run.trainer()
      trainer.saveCompanions = { try Data("{}".utf8).write(to: $0.appending(path: "tokenizer.json")) }
      _ = try trainer.train()
      let files = try FileManager.default.contentsOfDirectory(atPath: folder.path("run/checkpoint-1"))
      #expect(
        files.sorted() == ["README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"])
    }

    @Test("a limit keeps the newest checkpoints and the best one")
    func limit() throws {
      let folder = try TemporaryFolder()
      let plain = TinyRun(in: folder.path("plain"), steps: 10)
      var run = plain
      run.arguments.saveSteps = 2
      run.arguments.saveTotalLimit = 2
      #expect(try outcome(run).trainer.savedSteps == [8, 10])

      let best = scored(in: folder) {
        $0.arguments.saveTotalLimit = 2
        $0.arguments.loadBestModelAtEnd = true
      }
      let (_, trainer, outcome) = try outcome(best, metrics: [1, 5, 2, 3, 4])
      #expect(trainer.savedSteps == [4, 10])
      #expect(outcome.bestModelCheckpoint == folder.path("run/checkpoint-4"))
      #expect(outcome.bestMetric == 5)
    }

    // transformers deletes the newest one at the end, and with it the run's future.
    @Test("a limit of one keeps the best checkpoint and the newest one")
    func limitOfOne() throws {
      let folder = try TemporaryFolder()
      let run = scored(in: folder) {
        $0.arguments.saveTotalLimit = 1
        $0.arguments.loadBestModelAtEnd = true
      }
      #expect(try outcome(run, metrics: [1, 5, 2, 3, 4]).trainer.savedSteps == [4, 10])
    }

    @Test("save_strategy best saves the improvements alone")
    func saveBest() throws {
      let folder = try TemporaryFolder()
      let run = scored(in: folder) { $0.arguments.saveStrategy = .best }
      #expect(try outcome(run, metrics: [1, 3, 2, 3, 4]).trainer.savedSteps == [2, 4, 10])
    }

    // transformers saves only at the saving steps, and then loads the best of those, or nothing.
    @Test("the best model is saved even where no checkpoint is due, and is loaded at the end")
    func loadBest() throws {
      let folder = try TemporaryFolder()
      let run = scored(in: folder) {
        $0.arguments.saveSteps = 4
        $0.arguments.loadBestModelAtEnd = true
      }
      let (_, trainer, outcome) = try outcome(run, metrics: [1, 2, 9, 3, 4])
      #expect(trainer.savedSteps == [2, 4, 6, 8, 10])
      #expect(outcome.bestModelCheckpoint == folder.path("run/checkpoint-6"))
      let best = try run.model()
      try best.loadWeights("default", from: URL(filePath: folder.path("run/checkpoint-6")))
      let weights = try Dictionary(
        uniqueKeysWithValues: best.trainableParameters.map {
          ($0.key, try $0.parameter.value.detached().floats())
        })
      #expect(try trainer.weights == weights)
      let last = try run.model()
      try last.loadWeights("default", from: URL(filePath: folder.path("run/checkpoint-10")))
      #expect(
        try trainer.weights[last.trainableParameters[0].key]
          != last.trainableParameters[0].parameter.value.detached().floats())
    }

    @Test("without load_best_model_at_end the best checkpoint is the best of those that were saved")
    func bestOfSaved() throws {
      let folder = try TemporaryFolder()
      let run = scored(in: folder) { $0.arguments.saveSteps = 4 }
      let (_, trainer, outcome) = try outcome(run, metrics: [1, 2, 9, 3, 4])
      #expect(trainer.savedSteps == [4, 8, 10])
      #expect(outcome.bestModelCheckpoint == folder.path("run/checkpoint-4"))
      #expect(outcome.bestMetric == 9)
    }

    // MARK: Stopping early

    @Test(
      "patience counts evaluations without enough improvement",
      arguments: [
        // (scores, patience, threshold, steps)
        ([1.0, 2, 3, 4, 5], 1, 0.0, 10), ([1, 1, 3, 4, 5], 1, 0, 4), ([1, 0, 3, 4, 5], 2, 0, 10),
        ([1, 0, 0, 4, 5], 2, 0, 6), ([1, 1.4, 1.8, 4, 5], 2, 0.5, 6), ([1, 1.6, 2.2, 2.8, 3.4], 1, 0.5, 10),
        // NaN is no improvement, first or later.
        ([.nan, .nan, 3, 4, 5], 2, 0, 4), ([.nan, 1, 2, 3, 4], 2, 0, 10),
      ] as [([Double], Int, Double, Int)])
    func patience(scores: [Double], patience: Int, threshold: Double, steps: Int) throws {
      let folder = try TemporaryFolder()
      let run = scored(in: folder) {
        $0.arguments.earlyStoppingPatience = patience
        $0.arguments.earlyStoppingThreshold = threshold
      }
      let outcome = try outcome(run, metrics: scores).outcome
      #expect(outcome.steps == steps)
      #expect(outcome.stoppedEarly == (steps < 10))
      #expect(outcome.bestMetric == scores.prefix(steps / 2).filter { !$0.isNaN }.max())
    }

    @Test("a run that stopped early is over when it is resumed, unless it is given more patience")
    func stoppedAndResumed() throws {
      let folder = try TemporaryFolder()
      var run = scored(in: folder) { $0.arguments.earlyStoppingPatience = 1 }
      #expect(try outcome(run, metrics: [2, 1]).outcome.steps == 4)
      run.arguments.resumeFromCheckpoint = .latest
      let again = try outcome(run, metrics: [])
      #expect(again.outcome.steps == 4)
      #expect(again.outcome.stoppedEarly)
      #expect(again.recorder.steps.isEmpty)
      run.arguments.earlyStoppingPatience = 2
      #expect(try outcome(run, metrics: [3, 4, 5]).outcome.steps == 10)
    }

    @Test("greater_is_better and a loss decide which way is better")
    func direction() throws {
      let folder = try TemporaryFolder()
      let run = scored(in: folder) { $0.arguments.greaterIsBetter = false }
      #expect(try outcome(run, metrics: [3, 1, 2, 4, 5]).outcome.bestMetric == 1)
      var loss = TinyRun(in: folder.path("loss"), steps: 10, learningRate: 3e-2)
      loss.validation = randomRows(4, seed: 2)
      loss.arguments.evalStrategy = .steps
      loss.arguments.evalSteps = 1
      let (recorder, _, outcome) = try outcome(loss)
      #expect(outcome.bestMetric == recorder.evaluations.map(\.loss).min())
    }

    @Test("a metric that the evaluation does not give is refused, before the first step where it can be")
    func unknownMetric() throws {
      let folder = try TemporaryFolder()
      let run = scored(in: folder)
      let trainer = try run.trainer()
      let recorder = Recorder()
      trainer.log = recorder
      let early = message { _ = try trainer.train() }
      #expect(early.contains("eval_score") && early.contains("`eval_loss`"), "\(early)")
      #expect(recorder.steps.isEmpty)
      let other = try run.trainer()
      other.computeMetrics = { _ in ["accuracy": 1] }
      let late = message { _ = try other.train() }
      #expect(late.contains("`eval_accuracy`, `eval_loss`"), "\(late)")
    }

    @Test("an error of a metric ends the run with that error")
    func failingMetric() throws {
      struct Broken: Error {}
      let folder = try TemporaryFolder()
      let trainer = try scored(in: folder).trainer()
      trainer.computeMetrics = { _ in throw Broken() }
      #expect(throws: Broken.self) { try trainer.train() }
      #expect(trainer.savedSteps.isEmpty)
    }
  }
}
