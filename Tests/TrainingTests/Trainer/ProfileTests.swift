import Foundation
import Testing
import Torch
import Training

extension TrainerTests {
  @Suite("Profiles of steps")
  struct Profiles {
    @Test("the parts of a step add up to its time, and the losses are those of a run without a profile")
    func parts() throws {
      let run = TinyRun(in: nil, steps: 5)
      let plain = try run.trainer().train()
      let trainer = try run.trainer()
      let profiler = StepProfiler()
      trainer.profiler = profiler
      #expect(try trainer.train().trainLoss == plain.trainLoss)

      let profile = try profiler.finish()
      #expect(profile.steps == 4, "the first step is left out")
      let whole = profile.milliseconds.values.reduce(0, +)
      // Both are sums of the same times, one in floating point of nanoseconds: equal to rounding.
      #expect(abs(whole / (1000 * profile.secondsPerStep) - 1) < 1e-6)
      for part in ["products", "attention", "element-wise", "loss", "optimizer", "data", "swift"] {
        #expect(profile.milliseconds[part, default: 0] > 0, "\(part) of \(profile)")
      }
      #expect(profile.milliseconds.values.allSatisfy { $0 >= 0 })
      let stacks = profiler.foldedStacks.split(separator: "\n")
      #expect(stacks.contains { $0.hasPrefix("ct_backward;") && $0.contains("SwiGLU") })
      #expect(stacks.allSatisfy { Int($0.split(separator: " ").last ?? "") != nil })
    }

    @Test("checkpointed layers, which run inside of backward, are told from the engine")
    func checkpointing() throws {
      var run = TinyRun(in: nil, steps: 3)
      run.arguments.gradientCheckpointing = true
      let trainer = try run.trainer()
      let profiler = StepProfiler()
      trainer.profiler = profiler
      _ = try trainer.train()
      _ = try profiler.finish()
      #expect(profiler.foldedStacks.contains("ct_backward;"))
      #expect(profiler.foldedStacks.contains(";swift;ct_"))
    }

    @Test("one profiler measures at a time")
    func nested() throws {
      let profiler = Profiler()
      #expect(throws: TorchError.self) {
        try profiler.measure { try Profiler().measure {} }
      }
      // Left in order: the next one measures.
      #expect(try profiler.measure { 3 } == 3)
      _ = try profiler.finish()
    }
  }
}
