import Adapters
import Datasets
import Foundation
import Models
import TestSupport
import Testing
import Torch
import Training

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

extension TrainerTests {
  @Suite("Offloading")
  struct Offloading {
    private func losses(_ run: TinyRun) throws -> (losses: [Double], weights: [String: [Float]]) {
      let recorder = Recorder()
      let trainer = try run.trainer()
      trainer.log = recorder
      try trainer.train()
      return (recorder.steps.map(\.loss), try trainer.weights)
    }

    @Test(
      "what is kept elsewhere, and how many layers are run again, changes no bit of a run",
      arguments: ["whole", "offloaded", "first layer", "first layer offloaded"])
    func sameRun(_ what: String) throws {
      let folder = try TemporaryFolder()
      var run = TinyRun(in: nil, steps: 4)
      run.adapter.loraDropout = 0.2
      run.arguments.outputDir = folder.path("run")
      let plain = try losses(run)
      run.arguments.gradientCheckpointing = true
      run.arguments.activationOffloading = what.contains("offloaded")
      run.arguments.gradientCheckpointingLayers = what.contains("first") ? 1 : nil
      let found = try losses(run)
      #expect(found.losses == plain.losses)
      #expect(found.weights == plain.weights)
      // The files have no names.
      let left = (try? FileManager.default.contentsOfDirectory(atPath: folder.path("run"))) ?? []
      #expect(left.isEmpty)
    }

    @Test("an optimizer whose states are on the disk takes the same steps, and its checkpoints fit both ways")
    func optimizer() throws {
      let folder = try TemporaryFolder()
      let plain = try losses(TinyRun(in: folder.path("plain")))
      var run = TinyRun(in: folder.path("disk"))
      run.arguments.offloadOptimizer = .disk
      let found = try losses(run)
      #expect(found.losses == plain.losses)
      #expect(found.weights == plain.weights)
      var parts = TinyRun(in: folder.path("parts"))
      try parts.interrupted(after: 4)
      parts.arguments.resumeFromCheckpoint = .latest
      parts.arguments.offloadOptimizer = .disk
      let second = try parts.trainer()
      try second.train()
      #expect(try second.weights == plain.weights)
    }

    @Test("settings that say nothing or contradict each other are refused", .enabled(if: testDevice == .cpu))
    func contradictions() throws {
      var arguments = TrainingArguments()
      arguments.activationOffloading = true
      #expect(
        message { try arguments.validate(hasValidationData: false) }.contains(
          "`gradient_checkpointing` is false"))
      arguments.gradientCheckpointing = true
      try arguments.validate(hasValidationData: false)
      arguments.gradientCheckpointingLayers = 0
      #expect(
        message { try arguments.validate(hasValidationData: false) }.contains("gradient_checkpointing_layers")
      )
      arguments.gradientCheckpointingLayers = 3
      arguments.gradientCheckpointing = false
      arguments.activationOffloading = false
      #expect(
        message { try arguments.validate(hasValidationData: false) }.contains(
          "without `gradient_checkpointing`"))
      arguments.gradientCheckpointingLayers = nil
      arguments.offloadOptimizer = .cpu
      arguments.optim = try #require(OptimizerChoice("paged_adamw_8bit"))
      #expect(message { try arguments.validate(hasValidationData: false) }.contains("paged_adamw_8bit"))
      var run = TinyRun(in: nil)
      run.arguments.offloadOptimizer = .cpu
      let text = message { _ = try run.trainer() }
      #expect(text.contains("`offload_optimizer` is `cpu`") && text.contains("`disk`"), "\(text)")
    }

    #if os(Linux)
      @Test(
        "a run whose layers' inputs are offloaded survives a limit on memory that the plain one does not",
        .enabled(if: testDevice == .cpu))
      func limitedMemory() async {
        await #expect(processExitsWith: .success) {
          // 160 layers of 6,144 tokens in fp32: 0.75 MB each, 120 MB.
          var run = TinyRun(in: nil, steps: 1)
          run.adapter = LoRAConfig(
            r: 4, targetModules: ["q_proj"], initLoRAWeights: .random,
            layerReplication: Array(repeating: 0..<2, count: 80))
          run.rows = (0..<384).map { row in
            // No two neighbours begin alike: that would be computed once.
            let tokens = (0..<16).map { Int32(3 + ($0 + row) % 70) }
            return Datasets.Example(tokens: tokens, labels: tokens)
          }
          run.arguments.perDeviceTrainBatchSize = 384
          run.arguments.maxTokensPerPass = 0
          run.arguments.gradientCheckpointing = true
          run.arguments.outputDir = FileManager.default.temporaryDirectory.path(percentEncoded: false)
          let plain = try run.trainer()
          run.arguments.activationOffloading = true
          let offloaded = try run.trainer()

          // Private memory alone counts: what the file's pages take can be written to the disk.
          let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
          let line = status.split(separator: "\n").first { $0.hasPrefix("VmData:") }
          let used = line.flatMap { rlim_t($0.split(whereSeparator: \.isWhitespace)[1]) } ?? 0
          let most = (used << 10) + (64 << 20)
          var limit = rlimit(rlim_cur: most, rlim_max: most)
          guard used > 0, setrlimit(__rlimit_resource_t(RLIMIT_DATA.rawValue), &limit) == 0 else { exit(2) }
          do {
            try plain.train()
            exit(3)  // the limit did not hold
          } catch {
            guard "\(error)".contains("memory") else { exit(4) }
          }
          let outcome = try offloaded.train()
          guard outcome.trainLoss.isFinite, outcome.trainLoss > 0 else { exit(5) }
        }
      }
    #endif
  }
}
