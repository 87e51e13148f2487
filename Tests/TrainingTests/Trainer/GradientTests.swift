import Adapters
import Datasets
import Models
import NeuralNetworks
import Testing
import Torch
import Training

extension TrainerTests {
  @Suite("Gradients")
  struct Gradients {
    /// Loss and gradients of one batch, by parameter.
    private func gradients(
      _ run: TinyRun, _ batches: [[Datasets.Example]], checkpointing: Bool = false
    ) throws -> (loss: Double, gradients: [String: [Float]]) {
      let model = try run.model()
      model.base.usesGradientCheckpointing = checkpointing
      model.isTraining = true
      try RandomState.seed(5)
      var loss = 0.0
      for rows in batches {
        let sum = try CausalLanguageModeling().lossSum(model, Batch(rows))
        loss += try sum.item()
        try sum.backward()
      }
      let pairs = try model.trainableParameters.map {
        ($0.key, try #require($0.parameter.value.gradient).floats())
      }
      return (loss, Dictionary(uniqueKeysWithValues: pairs))
    }

    @Test("gradient checkpointing changes no bit of loss and gradients", arguments: [0, 0.3])
    func checkpointing(dropout: Double) throws {
      var run = TinyRun(in: nil)
      run.adapter.loraDropout = dropout
      let plain = try gradients(run, [run.rows])
      let checkpointed = try gradients(run, [run.rows], checkpointing: true)
      #expect(plain.loss == checkpointed.loss)
      #expect(plain.gradients == checkpointed.gradients)
      #expect(plain.gradients.values.allSatisfy { $0.contains { $0 != 0 } })
    }

    @Test("dropout changes the loss in training, not in evaluation")
    func dropout() throws {
      var run = TinyRun(in: nil)
      let plain = try gradients(run, [run.rows]).loss
      run.adapter.loraDropout = 0.3
      #expect(try gradients(run, [run.rows]).loss != plain)
      let model = try run.model()
      let (mean, supervised) = try evaluationLoss(model, ExampleList(run.rows), batchSize: run.rows.count)
      #expect(abs(mean * Double(supervised) - plain) < 1e-6 * plain)
    }

    @Test("examples packed into one sequence of a batch lose what they lose alone")
    func packing() throws {
      let run = TinyRun(in: nil)
      let model = try run.model()
      let objective = CausalLanguageModeling()
      var alone: [Double] = []
      for row in run.rows { alone.append(try objective.lossSum(model, Batch([row])).item()) }
      // Swapping neighbours must not change anything either: nothing leaks from one example into the next.
      for order in [run.rows.indices.map { $0 }, run.rows.indices.reversed().map { $0 }] {
        for index in order {
          // Everything but this example carries no loss.
          let pack = order.map { other in
            other == index
              ? run.rows[other]
              : Datasets.Example(
                tokens: run.rows[other].tokens, labels: run.rows[other].tokens.map { _ in ignoreIndex })
          }
          let packed = try objective.lossSum(model, Batch(pack)).item()
          #expect(abs(packed - alone[index]) <= 1e-5 * abs(alone[index]), "example \(index)")
        }
      }
    }

    @Test("accumulation over uneven batches equals one large batch")
    func accumulation() throws {
      let run = TinyRun(in: nil)
      let whole = try gradients(run, [run.rows])
      let split = try gradients(
        run, [Array(run.rows[..<1]), Array(run.rows[1..<9]), Array(run.rows[9...])])
      #expect(abs(whole.loss - split.loss) < 1e-5 * whole.loss)
      for (key, gradient) in whole.gradients {
        let scale = gradient.map(abs).max() ?? 0
        let difference = zip(gradient, split.gradients[key]!).map { abs($0 - $1) }.max() ?? 0
        #expect(difference < 1e-5 * scale, "\(key)")
      }
    }

    @Test("what rows begin with alike is computed once, with the gradients of rows computed alone")
    func sharedPrefix() throws {
      var run = TinyRun(in: nil)
      let prompt: [Int32] = [9, 17, 33, 4, 21, 6]
      run.rows = run.rows.enumerated().map { index, row in
        // The last token of the prompt is answered in some rows by a token that carries loss.
        Datasets.Example(
          tokens: prompt + row.tokens,
          labels: prompt.map { index % 3 == 0 ? $0 : ignoreIndex }
            + (index % 2 == 0 ? row.tokens : row.labels))
      }
      #expect(Batch(run.rows).sharedPrefix == prompt.count)
      let shared = try gradients(run, [run.rows])
      let alone = try gradients(run, run.rows.map { [$0] })
      #expect(abs(shared.loss - alone.loss) < 1e-5 * alone.loss)
      for (key, gradient) in alone.gradients {
        let scale = gradient.map(abs).max() ?? 0
        let difference = zip(gradient, shared.gradients[key]!).map { abs($0 - $1) }.max() ?? 0
        #expect(difference < 1e-5 * scale, "\(key)")
      }
    }

    @Test("a run that accumulates takes the steps of a run with large batches")
    func accumulatedSteps() throws {
      var large = TinyRun(in: nil, steps: 6)
      large.arguments.trainSamplingStrategy = .sequential
      large.arguments.perDeviceTrainBatchSize = 8
      var small = large
      small.arguments.perDeviceTrainBatchSize = 2
      small.arguments.gradientAccumulationSteps = 4
      let (first, second) = (Recorder(), Recorder())
      for (run, recorder) in [(large, first), (small, second)] {
        let trainer = try run.trainer()
        trainer.log = recorder
        _ = try trainer.train()
      }
      for (a, b) in zip(first.steps, second.steps) {
        #expect(abs(a.loss - b.loss) < 2e-5 * a.loss, "step \(a.step)")
        #expect(abs(a.gradientNorm - b.gradientNorm) < 2e-4 * a.gradientNorm, "step \(a.step)")
        #expect(a.supervised == b.supervised)
        #expect(a.epoch == b.epoch)
      }
    }

    @Test("a batch computed in several passes takes the steps of one computed at once")
    func passes() throws {
      var whole = TinyRun(in: nil, steps: 6)
      whole.arguments.perDeviceTrainBatchSize = 8
      whole.arguments.maxTokensPerPass = 0
      var split = whole
      split.arguments.maxTokensPerPass = 16
      let (first, second) = (Recorder(), Recorder())
      for (run, recorder) in [(whole, first), (split, second)] {
        let trainer = try run.trainer()
        trainer.log = recorder
        _ = try trainer.train()
      }
      #expect(first.steps.count == 6)
      for (a, b) in zip(first.steps, second.steps) {
        #expect(abs(a.loss - b.loss) < 2e-5 * a.loss, "step \(a.step)")
        #expect(abs(a.gradientNorm - b.gradientNorm) < 2e-4 * a.gradientNorm, "step \(a.step)")
        #expect(a.supervised == b.supervised && a.tokens == b.tokens)
      }
    }

    @Test("a batch without a supervised token adds nothing to its window")
    func maskedBatch() throws {
      var run = TinyRun(in: nil, steps: 1)
      run.arguments.trainSamplingStrategy = .sequential
      run.arguments.perDeviceTrainBatchSize = 2
      run.arguments.gradientAccumulationSteps = 2
      run.arguments.maxGradNorm = 0
      let masked = randomRows(2, seed: 3).map {
        Datasets.Example(tokens: $0.tokens, labels: $0.tokens.map { _ in ignoreIndex })
      }
      let rows = run.rows
      let alone = Recorder()
      run.arguments.gradientAccumulationSteps = 1
      let expected = try run.trainer()
      expected.log = alone
      _ = try expected.train()

      run.arguments.gradientAccumulationSteps = 2
      run.rows = masked + rows
      let trainer = try run.trainer()
      let recorder = Recorder()
      trainer.log = recorder
      _ = try trainer.train()
      #expect(recorder.steps[0].loss == alone.steps[0].loss)
      #expect(try trainer.weights == expected.weights)
      #expect(recorder.steps[0].tokens > alone.steps[0].tokens)
    }

    @Test("a window without a supervised token is a step that updates nothing and has no loss")
    func maskedWindow() throws {
      var run = TinyRun(in: nil, steps: 3)
      run.arguments.trainSamplingStrategy = .sequential
      run.arguments.perDeviceTrainBatchSize = 2
      run.arguments.weightDecay = 0.1
      run.arguments.loggingSteps = 1
      func trained(_ rows: [Datasets.Example], steps: Int) throws -> (Trainer, Recorder) {
        run.rows = rows
        run.arguments.maxSteps = steps
        let (trainer, recorder) = (try run.trainer(), Recorder())
        trainer.log = recorder
        _ = try trainer.train()
        return (trainer, recorder)
      }
      let rows = Array(run.rows.prefix(4))
      let masked = randomRows(2, seed: 3).map {
        Datasets.Example(tokens: $0.tokens, labels: $0.tokens.map { _ in ignoreIndex })
      }
      run.arguments.lrSchedulerType = "constant"
      let (expected, _) = try trained(rows, steps: 2)
      let (trainer, recorder) = try trained(rows[..<2] + masked + rows[2...], steps: 3)
      #expect(try trainer.weights == expected.weights)
      #expect(recorder.steps.map(\.skippedSteps) == [0, 1, 1])
      #expect(recorder.skipped == [SkippedStepReport(step: 2, reason: .nothingSupervised)])
      #expect(recorder.records[1].loss.isNaN && recorder.records[2].loss.isFinite)
      #expect(recorder.steps[1].tokens > recorder.steps[0].tokens)
      #expect(trainer.optimizer.stepCount == 2)
    }

    @Test("a bf16 base with fp32 adapters learns, and the adapters stay fp32")
    func bfloat16() throws {
      var run = TinyRun(in: nil, steps: 60, learningRate: 2e-2)
      run.dtype = .bfloat16
      run.rows = randomRows(4)
      run.adapter = LoRAConfig(r: 8, loraAlpha: 16, targetModules: .allLinear)
      let trainer = try run.trainer()
      let recorder = Recorder()
      trainer.log = recorder
      _ = try trainer.train()
      #expect(recorder.steps.last!.loss < 0.5 * recorder.steps[0].loss)
      #expect(trainer.model.trainableParameters.allSatisfy { $0.parameter.value.dtype == .float32 })
      #expect(trainer.model.base.parameters().contains { $0.value.dtype == .bfloat16 })
    }
  }
}
