import Adapters
import Datasets
import Formats
import Foundation
import JSON
import Models
import TestSupport
import Testing
import Training

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension TrainerTests {
  /// Runs of the `graft` program, ended by signals.
  @Suite("Killed processes")
  struct Killed {
    private static let steps = 80

    /// A tiny model with a tokenizer of single letters, rows for it, and a configuration that saves every second step.
    private func prepare(_ folder: TemporaryFolder) throws {
      let model = folder.url.appending(path: "model")
      try writeLetterModel(to: model)

      var generator = ShuffleGenerator(seed: 4)
      let rows = (0..<30).map { _ in
        let letters = (0..<4 + generator.below(16)).map { _ in Array("abcdefgh ")[Int(generator.below(9))] }
        return #"{"text": "\#(String(letters))"}"#
      }
      try Data(rows.joined(separator: "\n").utf8).write(to: folder.url.appending(path: "rows.jsonl"))
      // One thread: on a busy machine, two wait for each other longer than these products take.
      try Data(
        """
        model_name_or_path: \(model.path(percentEncoded: false))
        train_file: \(folder.path("rows.jsonl"))
        dtype: float32
        device: \(testDevice)
        num_threads: 1
        max_steps: \(Self.steps)
        per_device_train_batch_size: 2
        gradient_accumulation_steps: 2
        max_length: 32
        learning_rate: 0.01
        save_steps: 2
        save_total_limit: 2
        logging_steps: 1
        lora_dropout: 0.1
        r: 4
        target_modules: all-linear
        """.utf8
      ).write(to: folder.url.appending(path: "run.yaml"))
    }

    private func start(_ folder: TemporaryFolder, _ output: String, resume: Bool = false) throws -> Run {
      var arguments = ["train", folder.path("run.yaml"), "--set", "output_dir=\(folder.path(output))"]
      if resume { arguments.append("--resume") }
      return try Run(Program.url, arguments, log: folder.url.appending(path: "\(output).log"))
    }

    private func adapter(_ folder: URL) throws -> [String: [Float]] {
      let checkpoint = try Checkpoint.open(folder)
      return try Dictionary(
        uniqueKeysWithValues: checkpoint.tensorNames.map { ($0, try checkpoint.tensor($0).floats()) })
    }

    @Test(
      "kill -9 at any moment leaves checkpoints that load, and resuming comes to the weights of an unbroken run"
    )
    func killed() throws {
      let folder = try TemporaryFolder()
      try prepare(folder)
      let whole = try start(folder, "whole")
      #expect(whole.wait() == 0, "\(whole.output)")
      let expected = try adapter(folder.url.appending(path: "whole"))

      var generator = ShuffleGenerator(seed: 17)
      var kills = 0
      var resumedFrom: Set<Int> = []
      for round in 0..<5 {
        let known = Trainer.checkpoints(in: folder.path("killed")).last?.step ?? 0
        let run = try start(folder, "killed", resume: round > 0)
        // From its first new checkpoint on, the run spends about half of its time saving.
        while run.isRunning, (Trainer.checkpoints(in: folder.path("killed")).last?.step ?? 0) <= known {
          usleep(500)
        }
        usleep(UInt32(generator.below(60_000)))
        guard run.isRunning else { break }
        run.signal(SIGKILL)
        _ = run.wait()
        kills += 1

        let checkpoints = Trainer.checkpoints(in: folder.path("killed"))
        #expect(!checkpoints.isEmpty)
        for (step, url) in checkpoints {
          #expect(try adapter(url).mapValues(\.count) == expected.mapValues(\.count))
          _ = try PEFTModel.readConfiguration(url)
          _ = try Checkpoint.open(url.appending(path: "optimizer.safetensors"))
          let state = try JSONValue(parsing: Data(contentsOf: url.appending(path: "trainer_state.json")))
            .decode(TrainerState.self)
          #expect(state.globalStep == step)
        }
        resumedFrom.insert(checkpoints.last?.step ?? 0)
      }
      #expect(kills >= 3)
      #expect(resumedFrom.count == kills, "each run got further than the one before")

      let last = try start(folder, "killed", resume: true)
      #expect(last.wait() == 0, "\(last.output)")
      #expect(try adapter(folder.url.appending(path: "killed")) == expected)
      let steps = try MetricsFile.records(path: folder.path("killed/metrics.jsonl")).map {
        $0["step"]?.intValue
      }
      #expect(steps == Array(1...Self.steps))
      let losses = try ["whole", "killed"].map { name in
        try MetricsFile.records(path: folder.path("\(name)/metrics.jsonl")).map { $0["loss"] }
      }
      #expect(losses[0] == losses[1])
      // Half-written folders of the killed processes are gone.
      let names = try FileManager.default.contentsOfDirectory(atPath: folder.path("killed"))
      #expect(!names.contains { $0.hasPrefix("checkpoint-") && $0.contains("tmp-") }, "\(names)")
    }

    @Test("Ctrl-C saves, says how to go on, and ends with 130; going on comes to the same weights")
    func interrupted() throws {
      let folder = try TemporaryFolder()
      try prepare(folder)
      let whole = try start(folder, "whole")
      #expect(whole.wait() == 0, "\(whole.output)")

      let run = try start(folder, "stopped")
      while run.isRunning, Trainer.checkpoints(in: folder.path("stopped")).isEmpty { usleep(500) }
      run.signal(SIGINT)
      #expect(run.wait() == 130, "\(run.output)")
      let newest = try #require(Trainer.checkpoints(in: folder.path("stopped")).last)
      #expect(run.output.contains("Stopped after step \(newest.step)"), "\(run.output)")
      #expect(run.output.contains("--resume"), "\(run.output)")
      #expect(!FileManager.default.fileExists(atPath: folder.path("stopped/adapter_config.json")))

      let again = try start(folder, "stopped")
      #expect(again.wait() == 1)
      #expect(again.output.contains("of an earlier run"), "\(again.output)")
      let resumed = try start(folder, "stopped", resume: true)
      #expect(resumed.wait() == 0, "\(resumed.output)")
      #expect(
        try adapter(folder.url.appending(path: "stopped")) == adapter(folder.url.appending(path: "whole")))
    }

    @Test("memory that has lost its file ends a run with a sentence, and its checkpoints go on")
    func lostMapping() throws {
      let folder = try TemporaryFolder()
      try prepare(folder)
      let run = try start(folder, "run")
      while run.isRunning, Trainer.checkpoints(in: folder.path("run")).isEmpty { usleep(500) }
      run.signal(SIGBUS)
      #expect(run.wait() == 1)
      #expect(run.output.contains("mapped into memory can no longer be read"), "\(run.output)")
      let resumed = try start(folder, "run", resume: true)
      #expect(resumed.wait() == 0, "\(resumed.output)")
    }

    @Test("resuming with other settings changes no file of the run")
    func refused() throws {
      let folder = try TemporaryFolder()
      try prepare(folder)
      let run = try start(folder, "run")
      while run.isRunning, Trainer.checkpoints(in: folder.path("run")).isEmpty { usleep(500) }
      run.signal(SIGKILL)
      _ = run.wait()
      let before = try ["run.yaml", "metrics.jsonl"].map { try folder.text("run/" + $0) }
      let configuration = folder.url.appending(path: "run.yaml")
      let text = try String(contentsOf: configuration, encoding: .utf8)
      try Data(text.replacing("r: 4", with: "r: 8").utf8).write(to: configuration)
      let other = try start(folder, "run", resume: true)
      #expect(other.wait() == 1)
      #expect(other.output.contains("had r 4, this one has 8"), "\(other.output)")
      #expect(try ["run.yaml", "metrics.jsonl"].map { try folder.text("run/" + $0) } == before)
    }
  }
}

/// A process with its output in a file, which never blocks it.
private final class Run {
  private let process = Process()
  private let log: URL

  init(_ program: URL, _ arguments: [String], log: URL) throws {
    self.log = log
    try Data().write(to: log)
    let handle = try FileHandle(forWritingTo: log)
    process.executableURL = program
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = handle
    process.standardError = handle
    try process.run()
  }

  var isRunning: Bool { process.isRunning }
  func signal(_ number: Int32) { kill(process.processIdentifier, number) }

  /// The exit code, or the signal that ended it.
  func wait() -> Int32 {
    process.waitUntilExit()
    return process.terminationStatus
  }

  var output: String { (try? String(contentsOf: log, encoding: .utf8)) ?? "" }
}
