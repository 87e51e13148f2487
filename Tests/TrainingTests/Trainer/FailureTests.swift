import Adapters
import Datasets
import Foundation
import Testing
import Torch
import Training

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension TrainerTests {
  @Suite("Failures")
  struct Failures {
    @Test(
      "a learning rate that blows the weights up ends the run with step and remedy, and what was saved stays")
    func explosion() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 6)
      run.arguments.saveSteps = 1
      run.arguments.loggingSteps = 1
      try run.interrupted(after: 2)
      run.arguments.resumeFromCheckpoint = .latest
      let file = URL(filePath: folder.path("run/checkpoint-2/adapter_model.safetensors"))
      let before = try Data(contentsOf: file)
      // 1e30 fits into fp32, its products do not; 1e39 does not fit itself.
      for rate in [1e30, 1e39] {
        run.arguments.learningRate = rate
        run.arguments.lrSchedulerType = "constant"
        let text = message { _ = try run.trainer().train() }
        #expect(text.contains("step 3") || text.contains("step 4"), "\(text)")
        #expect(text.contains("Lower learning_rate"), "\(text)")
        #expect(try Data(contentsOf: file) == before)
        for step in Trainer.checkpoints(in: folder.path("run")).map(\.step) where step > 2 {
          try FileManager.default.removeItem(atPath: folder.path("run/checkpoint-\(step)"))
        }
      }
    }

    @Test("a NaN in the adapter is found in the first step", arguments: [1.0, 0.0])
    func notANumber(maxGradNorm: Double) throws {
      var run = TinyRun(in: nil)
      run.arguments.maxGradNorm = maxGradNorm
      let trainer = try run.trainer()
      try withoutGradient {
        try trainer.model.trainableParameters[0].parameter.value.detached().fillInPlace(.nan)
      }
      let text = message { _ = try trainer.train() }
      #expect(text.contains("loss became nan at step 1"), "\(text)")
      #expect(text.contains("No checkpoint was written yet"), "\(text)")
    }

    @Test("nothing to learn from is found before the first step")
    func noData() throws {
      var run = TinyRun(in: nil)
      let rows = run.rows
      let masked = rows.map {
        Datasets.Example(tokens: $0.tokens, labels: $0.tokens.map { _ in ignoreIndex })
      }
      run.rows = []
      #expect(message { _ = try run.trainer() }.contains("training data has no examples"))
      run.rows = masked
      let text = message { _ = try run.trainer() }
      #expect(text.contains("None of the 24 training examples has a supervised token"), "\(text)")
      // A first token has nothing before it that it could be predicted from.
      run.rows = [Datasets.Example(tokens: [5], labels: [5])]
      #expect(message { _ = try run.trainer() }.contains("None of the 1 training examples"))
      run.rows = rows
      run.arguments.evalStrategy = .epoch
      run.validation = masked
      #expect(message { _ = try run.trainer() }.contains("None of the 24 validation examples"))
      run.validation = []
      #expect(message { _ = try run.trainer() }.contains("validation data has no examples"))
    }

    @Test("a batch larger than the data is one batch, or an error when incomplete ones are dropped")
    func largeBatch() throws {
      var run = TinyRun(in: nil, steps: -1)
      run.arguments.perDeviceTrainBatchSize = 1000
      #expect(try run.trainer().train().steps == 3)
      run.arguments.dataloaderDropLast = true
      let text = message { _ = try run.trainer() }
      #expect(text.contains("dataloader_drop_last") && text.contains("1000"), "\(text)")
    }

    @Test("a model without an adapter has nothing to train")
    func noAdapter() throws {
      let run = TinyRun(in: nil)
      let model = try run.model()
      try model.setAdapters([])
      let text = message {
        _ = try Trainer(model: model, arguments: run.arguments, trainDataset: ExampleList(run.rows))
      }
      #expect(text.contains("no active adapter"), "\(text)")
    }

    @Test("an output_dir that cannot be written to is found before the first step")
    func outputFolder() throws {
      let folder = try TemporaryFolder()
      try Data("mine".utf8).write(to: folder.url.appending(path: "file"))
      // The second lies below a file; the third no user may write to, root neither.
      for path in [folder.path("file"), folder.path("file/run"), "/proc/run"] {
        let trainer = try TinyRun(in: path).trainer()
        let recorder = Recorder()
        trainer.log = recorder
        let text = message { _ = try trainer.train() }
        #expect(text.contains("`output_dir` is \(path)"), "\(text)")
        #expect(recorder.steps.isEmpty)
      }
      #expect(try folder.text("file") == "mine")
    }

    @Test("a disk that fills up while saving costs the checkpoint, not the ones before it")
    func diskFull() throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: folder.path("run"), steps: 6)
      run.arguments.saveSteps = 2
      // A limit on file sizes is what a process can do to itself; the system refuses the write as on a full disk.
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit()
      getrlimit(Limit.fileSize, &limit)
      let unlimited = limit
      defer {
        var restored = unlimited
        setrlimit(Limit.fileSize, &restored)
      }
      let trainer = try run.trainer()
      trainer.shouldStop = { [unowned trainer] in
        if trainer.state.globalStep == 3 {
          limit.rlim_cur = 2000
          setrlimit(Limit.fileSize, &limit)
        }
        return false
      }
      let text = message { _ = try trainer.train() }
      var restored = unlimited
      setrlimit(Limit.fileSize, &restored)
      #expect(text.contains("checkpoint-4") && text.contains("nothing was overwritten"), "\(text)")
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("run")) == ["checkpoint-2"])

      run.arguments.resumeFromCheckpoint = .latest
      let resumed = try run.trainer()
      #expect(try resumed.train().steps == 6)
      run.arguments.resumeFromCheckpoint = nil
      run.arguments.outputDir = folder.path("whole")
      let whole = try run.trainer()
      _ = try whole.train()
      #expect(try resumed.weights == whole.weights)
    }

    @Test("an error of a sink ends the run")
    func sink() throws {
      final class Full: MetricsSink {
        func record(_ report: StepReport) throws {
          throw LoggingError("the disk is full", remedy: "free some")
        }
        func record(_ report: EvaluationReport) {}
      }
      var run = TinyRun(in: nil)
      run.arguments.loggingSteps = 1
      let trainer = try run.trainer()
      trainer.log = Full()
      #expect(throws: LoggingError.self) { try trainer.train() }
    }

    @Test("a thousand steps leave no tensor behind")
    func leaks() throws {
      func live(after steps: Int) throws -> (tensors: Int, memory: Int) {
        var run = TinyRun(in: nil, steps: steps, learningRate: 1e-3)
        run.adapter.loraDropout = 0.1
        run.arguments.gradientCheckpointing = true
        run.arguments.perDeviceTrainBatchSize = 2
        let trainer = try run.trainer()
        _ = try trainer.train()
        return (Engine.liveTensorCount, residentMemory())
      }
      _ = try live(after: 5)
      let short = try live(after: 50)
      let long = try live(after: 1050)
      print("memory after 50 steps: \(short.memory >> 10) KiB, after 1,050: \(long.memory >> 10) KiB")
      #expect(long.tensors == short.tensors)
      // A tensor of this model's activations kept at each step would be a multiple of it.
      #expect(long.memory - short.memory < 16 << 20)
    }
  }
}

/// Bytes of this process in memory now; where the system does not say, the most there were.
private func residentMemory() -> Int {
  guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8),
    let pages = Int(text.split(separator: " ").dropFirst().first ?? "")
  else { return ProcessMemory.peak }
  return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
}

private enum Limit {
  #if canImport(Glibc)
    static let fileSize = __rlimit_resource_t(RLIMIT_FSIZE.rawValue)
  #else
    static let fileSize = RLIMIT_FSIZE
  #endif
}
