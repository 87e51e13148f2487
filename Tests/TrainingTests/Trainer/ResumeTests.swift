import Adapters
import Datasets
import Foundation
import JSON
import Testing
import Torch
import Training

extension TrainerTests {
  @Suite("Resuming")
  struct Resuming {
    /// What has to be the same after an interruption.
    enum Twist: String, CaseIterable, CustomTestStringConvertible {
      case plain, accumulation, checkpointing, packing, grouped, epochEnd, fractionOfEpoch, savedModules
      case pagedAdamW8Bit, adafactor, lion8Bit, momentum
      case eva, dora, fastPiSSA, loftQ, trainedTokens, loraPlus
      var testDescription: String { rawValue }
    }

    private func run(_ twist: Twist, in folder: String) -> TinyRun {
      // 24 rows in batches of 4: an epoch is 6 batches.
      var run = TinyRun(in: folder, steps: 15)
      run.adapter.loraDropout = 0.2
      run.arguments.lrSchedulerType = "cosine"
      run.arguments.warmupSteps = 3
      run.arguments.weightDecay = 0.01
      run.arguments.loggingSteps = 2
      run.arguments.evalStrategy = .steps
      run.arguments.evalSteps = 5
      run.arguments.saveSteps = 5
      run.validation = randomRows(5, seed: 11)
      switch twist {
      case .plain, .epochEnd: break
      case .accumulation: run.arguments.gradientAccumulationSteps = 4
      case .checkpointing: run.arguments.gradientCheckpointing = true
      case .packing:
        run.arguments.packing = true
        run.arguments.perDeviceTrainBatchSize = 1
        run.arguments.maxLength = 40
      case .grouped: run.arguments.trainSamplingStrategy = .groupByLength
      case .fractionOfEpoch:
        run.arguments.maxSteps = -1
        run.arguments.numTrainEpochs = 2.3
      case .pagedAdamW8Bit, .lion8Bit:
        // Large enough for states in 8 bits, which a rank of LoRA's cannot be here.
        run.method = LoHaConfig(
          LyCORISSettings(r: 128, targets: TargetModules(targetModules: ["q_proj"])))
        run.arguments.optim = OptimizerChoice(twist == .lion8Bit ? "lion_8bit" : "paged_adamw_8bit")!
      case .adafactor: run.arguments.optim = OptimizerChoice("adafactor")!
      case .momentum:
        run.arguments.optim = OptimizerChoice("sgd")!
        run.arguments.optimArgs = "momentum=0.9"
      case .eva:
        run.adapter.initLoRAWeights = .eva
        // Few rows: directions are taken as they come.
        run.adapter.evaConfig = EVAConfig(tau: 0.5, useLabelMask: false)
      case .dora: run.adapter.useDoRA = true
      case .fastPiSSA: run.adapter.initLoRAWeights = .pissa(iterations: 2)
      case .loftQ: run.adapter.initLoRAWeights = .loftQ
      case .trainedTokens: run.adapter.trainableTokenIndices = .inputEmbedding([5, 9, 40])
      case .loraPlus: run.arguments.loraplusLrRatio = 8
      case .savedModules:
        run.adapter.bias = .all
        run.adapter.common.modulesToSave = ["lm_head"]
      }
      return run
    }

    @Test("an interrupted run goes on to the same bits", arguments: Twist.allCases)
    func exact(_ twist: Twist) throws {
      let folder = try TemporaryFolder()
      let whole = try run(twist, in: folder.path("whole")).trainer()
      whole.log = try MetricsFile(path: folder.path("whole/metrics.jsonl"), resumedStep: nil)
      let outcome = try whole.train()

      var run = run(twist, in: folder.path("parts"))
      let metrics = folder.path("parts/metrics.jsonl")
      // Once within an epoch, once more behind its end; at an epoch's last step for .epochEnd.
      let stops = twist == .epochEnd ? [6, 12] : [4, 9]
      var log = try MetricsFile(path: metrics, resumedStep: nil)
      for stop in stops {
        let interrupted = try run.interrupted(after: stop, log: log)
        #expect(interrupted.step == stop)
        #expect(interrupted.checkpoint == folder.path("parts/checkpoint-\(stop)"))
        run.arguments.resumeFromCheckpoint = .latest
        log = try MetricsFile(path: metrics, resumedStep: stop)
      }
      let resumed = try run.trainer()
      resumed.log = log
      let end = try resumed.train()

      #expect(end.steps == outcome.steps)
      #expect(end.epochs == outcome.epochs)
      #expect(try resumed.weights == whole.weights)
      #expect(try records(metrics) == records(folder.path("whole/metrics.jsonl")))
      #expect(try records(metrics).isEmpty == false)
      var (a, b) = (whole.state, resumed.state)
      for path in [a.bestModelCheckpoint, b.bestModelCheckpoint] { #expect(path != nil) }
      a.bestModelCheckpoint = nil
      b.bestModelCheckpoint = nil
      #expect(a == b)
    }

    /// The records of a run without the values that clocks and memory decide.
    private func records(_ path: String) throws -> [JSONValue] {
      try MetricsFile.records(path: path).map { record in
        var record = record
        for key in ["seconds", "tokens_per_second", "memory_bytes", "eval_seconds"] { record[key] = nil }
        return record
      }
    }

    @Test("dropout is at work in these runs")
    func dropoutMatters() throws {
      var run = TinyRun(in: nil)
      let plain = try run.trainer()
      _ = try plain.train()
      run.adapter.loraDropout = 0.2
      let dropping = try run.trainer()
      _ = try dropping.train()
      #expect(try plain.weights != dropping.weights)
    }

    @Test("a run interrupted while it evaluates evaluates again, and comes to the same")
    func interruptedEvaluation() throws {
      let folder = try TemporaryFolder()
      var run = run(.plain, in: folder.path("whole"))
      run.arguments.perDeviceEvalBatchSize = 1
      run.arguments.loadBestModelAtEnd = true
      run.arguments.saveSteps = 5
      let whole = try run.trainer()
      let expected = Recorder()
      whole.log = expected
      _ = try whole.train()

      run.arguments.outputDir = folder.path("parts")
      let recorder = Recorder()
      let first = try run.trainer()
      first.log = recorder
      var questions = 0
      // In the middle of the validation rows of step 5.
      first.shouldStop = { [unowned first] in
        if first.state.globalStep == 5 { questions += 1 }
        return questions > 2
      }
      #expect(throws: TrainingInterrupted.self) { try first.train() }
      #expect(recorder.evaluations.isEmpty)
      #expect(recorder.isFinished)
      #expect(first.state.bestMetric == nil)

      run.arguments.resumeFromCheckpoint = .latest
      let second = try run.trainer()
      second.log = recorder
      _ = try second.train()
      #expect(recorder.evaluations.map(\.step) == expected.evaluations.map(\.step))
      #expect(recorder.evaluations.map(\.loss) == expected.evaluations.map(\.loss))
      #expect(second.state.bestMetric == whole.state.bestMetric)
      #expect(second.savedSteps == whole.savedSteps)
      #expect(try second.weights == whole.weights)
    }

    @Test("a run interrupted before its first step saves nothing and says so")
    func interruptedAtOnce() throws {
      let folder = try TemporaryFolder()
      var run = run(.plain, in: folder.path("run"))
      run.arguments.evalOnStart = true
      let trainer = try run.trainer()
      trainer.shouldStop = { true }
      let error = try #require(throws: TrainingInterrupted.self) { try trainer.train() }
      #expect(error.step == 0)
      #expect("\(error)".contains("before the first step"))
      #expect(trainer.savedSteps.isEmpty)
    }

    @Test("a finished run resumes to itself, and goes on when it is made longer")
    func longer() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 4)
      run.arguments.lrSchedulerType = "constant"
      let first = try run.trainer()
      _ = try first.train()
      run.arguments.resumeFromCheckpoint = .latest
      let again = try run.trainer()
      #expect(try again.train().steps == 4)
      #expect(try again.weights == first.weights)

      run.arguments.maxSteps = 7
      let longer = try run.trainer()
      #expect(try longer.train().steps == 7)
      run.arguments.resumeFromCheckpoint = nil
      run.arguments.outputDir = folder.path("whole")
      let whole = try run.trainer()
      _ = try whole.train()
      #expect(try longer.weights == whole.weights)
    }

    @Test("true without a checkpoint begins anew")
    func nothingToResume() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 2)
      run.arguments.resumeFromCheckpoint = .latest
      #expect(try run.trainer().train().steps == 2)
    }

    @Test("other settings are refused by name")
    func otherSettings() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 9)
      run.arguments.dataSeed = 42
      try run.interrupted(after: 2)
      let changes: [(String, (inout TinyRun) -> Void)] = [
        ("per_device_train_batch_size", { $0.arguments.perDeviceTrainBatchSize = 2 }),
        ("gradient_accumulation_steps", { $0.arguments.gradientAccumulationSteps = 2 }),
        ("seed", { $0.arguments.seed = 1 }),
        ("data_seed", { $0.arguments.dataSeed = 1 }),
        ("packing", { $0.arguments.packing = true }),
        ("train_sampling_strategy", { $0.arguments.trainSamplingStrategy = .sequential }),
        ("dataloader_drop_last", { $0.arguments.dataloaderDropLast = true }),
        ("max_length", { $0.arguments.maxLength = 50 }),
        ("examples", { $0.rows.removeLast() }),
        ("tokens", { $0.rows[0] = Datasets.Example(tokens: [3], labels: [3]) }),
        ("lora_alpha", { $0.adapter.loraAlpha = 64 }),
        ("lora_dropout", { $0.adapter.loraDropout = 0.5 }),
        ("r", { $0.adapter.r = 2 }),
        ("target_modules", { $0.adapter.targets.targetModules = ["q_proj"] }),
        ("use_rslora", { $0.adapter.useRSLoRA = true }),
      ]
      for (key, change) in changes {
        var other = run
        change(&other)
        other.arguments.resumeFromCheckpoint = .latest
        let text = message { _ = try other.trainer().train() }
        #expect(text.contains(" had \(key) "), "\(key): \(text)")
        #expect(text.contains("Restore the setting"))
      }
      // The order of names in a list and the learning rate make no other run.
      var same = run
      same.adapter.targets.targetModules = ["down_proj", "v_proj", "q_proj"]
      same.arguments.learningRate = 1e-3
      same.arguments.resumeFromCheckpoint = .latest
      #expect(try same.trainer().train().steps == 9)
    }

    @Test("every damaged file of a checkpoint is found, and the way out named")
    func damage() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 6)
      run.arguments.saveSteps = 2
      try run.interrupted(after: 5)
      run.arguments.resumeFromCheckpoint = .latest
      let newest = folder.path("run/checkpoint-5")
      let intact = folder.path("intact")
      try FileManager.default.copyItem(atPath: newest, toPath: intact)
      for file in [
        "trainer_state.json", "optimizer.safetensors", "adapter_model.safetensors", "adapter_config.json",
      ] {
        let path = "\(newest)/\(file)"
        let data = try Data(contentsOf: URL(filePath: path))
        let damages: [(String, Data?)] = [
          ("truncated", data.prefix(data.count / 2)), ("empty", Data()), ("text", Data("not this".utf8)),
          ("missing", nil),
        ]
        // Without its state a folder is no checkpoint to resume from, and the one before it is.
        for (kind, damaged) in damages where !(file == "trainer_state.json" && kind == "missing") {
          try FileManager.default.removeItem(atPath: path)
          if let damaged { try damaged.write(to: URL(filePath: path)) }
          let text = message { _ = try run.trainer().train() }
          #expect(text.contains(file), "\(file) \(kind): \(text)")
          #expect(text.contains("checkpoint-5"), "\(file) \(kind): \(text)")
          if !FileManager.default.fileExists(atPath: path) {
            try Data().write(to: URL(filePath: path))
          }
        }
        try data.write(to: URL(filePath: path))
      }
      let text = message {
        try Data("x".utf8).write(to: URL(filePath: "\(newest)/optimizer.safetensors"))
        _ = try run.trainer().train()
      }
      #expect(text.contains("resume_from_checkpoint: \(folder.path("run/checkpoint-4"))"), "\(text)")
      run.arguments.resumeFromCheckpoint = .directory(folder.path("run/checkpoint-4"))
      #expect(try run.trainer().train().steps == 6)
    }

    @Test("an optimizer state of another shape is refused rather than broadcast")
    func foreignOptimizer() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("a"), steps: 4)
      try run.interrupted(after: 2)
      var other = TinyRun(in: folder.path("b"), steps: 4)
      other.adapter.r = 1
      try other.interrupted(after: 2)
      let target = URL(filePath: folder.path("a/checkpoint-2/optimizer.safetensors"))
      try FileManager.default.removeItem(at: target)
      try FileManager.default.copyItem(
        at: URL(filePath: folder.path("b/checkpoint-2/optimizer.safetensors")), to: target)
      run.arguments.resumeFromCheckpoint = .latest
      let text = message { _ = try run.trainer().train() }
      #expect(text.contains("shape") && text.contains("exp_avg"), "\(text)")
    }

    @Test("what a killed process left is ignored and removed, and the newest whole checkpoint taken")
    func leftovers() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 9)
      run.arguments.saveSteps = 2
      try run.interrupted(after: 7)
      let manager = FileManager.default
      // No process has this number.
      let half = folder.path("run/checkpoint-8.tmp-4194305-abc")
      try manager.createDirectory(atPath: half, withIntermediateDirectories: true)
      try Data("{".utf8).write(to: URL(filePath: half + "/trainer_state.json"))
      // Killed between the two renames of a replacement: the old folder is put back.
      try manager.moveItem(
        atPath: folder.path("run/checkpoint-6"), toPath: folder.path("run/checkpoint-6.old-tmp-4194305-abc"))
      // Names that are no checkpoints.
      for name in ["checkpoint-", "checkpoint-9x", "checkpoint-+9", "checkpoint-09"] {
        try manager.createDirectory(atPath: folder.path("run/" + name), withIntermediateDirectories: true)
      }
      try Data().write(to: URL(filePath: folder.path("run/checkpoint-100")))
      #expect(Trainer.checkpoints(in: folder.path("run")).map(\.step) == [2, 4, 7])

      run.arguments.resumeFromCheckpoint = .latest
      let recorder = Recorder()
      let trainer = try run.trainer()
      trainer.log = recorder
      _ = try trainer.train()
      #expect(recorder.steps.map(\.step) == [8, 9])
      #expect(!manager.fileExists(atPath: half))
      #expect(trainer.savedSteps == [2, 4, 6, 7, 8, 9])
    }

    @Test("a new run does not mix with the checkpoints of an earlier one")
    func foreignCheckpoints() throws {
      let folder = try TemporaryFolder()
      let run = TinyRun(in: folder.path("run"), steps: 2)
      _ = try run.trainer().train()
      let text = message { _ = try run.trainer().train() }
      #expect(text.contains("checkpoint-2") && text.contains("resume_from_checkpoint: true"), "\(text)")
    }

    @Test("a run whose checkpoints hold the adapter alone cannot be resumed")
    func adapterOnly() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 4)
      run.arguments.saveOnlyModel = true
      let error = try run.interrupted(after: 2)
      #expect(error.checkpoint == nil)
      #expect(Trainer.checkpoints(in: folder.path("run")).map(\.step) == [2])
      run.arguments.resumeFromCheckpoint = .latest
      #expect(message { _ = try run.trainer().train() }.contains("save_only_model"))
      run.arguments.resumeFromCheckpoint = .directory(folder.path("run/checkpoint-2"))
      #expect(message { _ = try run.trainer().train() }.contains("save_only_model"))
    }

    @Test("the best checkpoint is found again after the run's folder has been moved")
    func moved() throws {
      let folder = try TemporaryFolder()
      var run = run(.plain, in: folder.path("old"))
      run.arguments.saveSteps = 5
      run.arguments.loadBestModelAtEnd = true
      try run.interrupted(after: 7)
      try FileManager.default.moveItem(atPath: folder.path("old"), toPath: folder.path("new"))
      run.arguments.outputDir = folder.path("new")
      run.arguments.resumeFromCheckpoint = .latest
      let trainer = try run.trainer()
      let outcome = try trainer.train()
      let best = try #require(outcome.bestModelCheckpoint)
      #expect(best.hasPrefix(folder.path("new/")))
      #expect(FileManager.default.fileExists(atPath: best))
    }
  }
}
