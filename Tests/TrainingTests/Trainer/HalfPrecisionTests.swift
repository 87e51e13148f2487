import Datasets
import Foundation
import Testing
import Torch
import Training

extension TrainerTests {
  @Suite("Half precision")
  struct HalfPrecision {
    private func run(steps: Int = 12, in folder: String? = nil) -> TinyRun {
      var run = TinyRun(in: folder, steps: steps)
      run.dtype = .float16
      run.arguments.fp16 = true
      run.arguments.loggingSteps = 1
      return run
    }

    @Test("the factor of the loss is GradScaler's")
    func factor() throws {
      let expected = try Fixture.json("loss_scale.json")
      var scale = LossScale(growthInterval: 4)
      let overflows = try #require(expected["overflows"]?.arrayValue)
      for (overflow, factor) in zip(overflows, try #require(expected["factors"]?.arrayValue)) {
        scale.step(overflowed: overflow.boolValue == true)
        #expect(scale.factor == factor.doubleValue)
      }
      #expect(overflows.count > 20)
    }

    @Test("training in fp16 follows fp32, with adapters in fp32")
    func follows() throws {
      let (half, single) = (Recorder(), Recorder())
      var reference = run()
      reference.dtype = .float32
      reference.arguments.fp16 = false
      for (run, recorder) in [(run(), half), (reference, single)] {
        let trainer = try run.trainer()
        // With 65,536, gradients come so near to fp16's largest number that a device's random start may exceed it.
        if run.arguments.fp16 { trainer.state.lossScale = LossScale(factor: 0x1p12) }
        trainer.log = recorder
        _ = try trainer.train()
        #expect(trainer.model.trainableParameters.allSatisfy { $0.parameter.value.dtype == .float32 })
      }
      for (a, b) in zip(half.steps, single.steps) {
        // 11 bits of mantissa in every product, over a few layers and twelve steps.
        #expect(abs(a.loss - b.loss) < 1e-2 * b.loss, "step \(a.step)")
        #expect(abs(a.gradientNorm - b.gradientNorm) < 5e-2 * b.gradientNorm, "step \(a.step)")
        #expect(a.lossScale != nil && b.lossScale == nil)
      }
    }

    @Test(
      "a gradient that overflows is named, its step updates nothing, and the factor is halved until it fits")
    func overflow() throws {
      let trainer = try run(steps: 30).trainer()
      let recorder = Recorder()
      trainer.log = recorder
      trainer.state.lossScale = LossScale(factor: 0x1p30)
      let before = try trainer.weights
      trainer.shouldStop = { [unowned trainer] in trainer.state.globalStep == 3 }
      _ = try? trainer.train()
      #expect(try trainer.weights == before)
      #expect(recorder.skipped.map(\.step) == [1, 2, 3])
      for (index, report) in recorder.skipped.enumerated() {
        guard case .overflow(let parameter, let factor) = report.reason else {
          Issue.record("\(report.reason)")
          continue
        }
        #expect(before.keys.contains(parameter))
        #expect(factor == 0x1p30 / Double(1 << index))
      }
      // The schedule has not moved either.
      #expect(Set(recorder.steps.map(\.learningRate)).count == 1)
      #expect(recorder.steps.allSatisfy { $0.loss.isFinite })

      trainer.shouldStop = { false }
      _ = try? trainer.train()
      let skipped = recorder.skipped.count
      #expect(skipped > 3 && skipped < 30)
      #expect(recorder.steps.last?.skippedSteps == skipped)
      #expect(try trainer.weights != before)
    }

    @Test("a gradient that overflows however little the loss is scaled ends the run with its name")
    func exhausted() throws {
      let trainer = try run(steps: 40).trainer()
      trainer.state.lossScale = LossScale(factor: 1)
      let parameters = trainer.model.trainableParameters
      // Finite in fp32 and in the forward pass, but not in the gradient of the other matrix.
      let b = try #require(parameters.first { $0.key.hasSuffix("lora_B.weight") })
      let a = try #require(parameters.first { $0.key.hasSuffix("lora_A.weight") })
      try withoutGradient {
        try b.parameter.value.detached().fillInPlace(6e4)
        try a.parameter.value.detached().fillInPlace(0)
      }
      let text = message { _ = try trainer.train() }
      #expect(text.contains("overflows float16") || text.contains("became"), "\(text)")
      #expect(text.contains("use bf16"), "\(text)")
    }

    @Test("an interrupted run in fp16 goes on to the same bits, factor and skipped steps included")
    func resuming() throws {
      let folder = try TemporaryFolder()
      func prepared(_ run: TinyRun) throws -> Trainer {
        let trainer = try run.trainer()
        trainer.state.lossScale = LossScale(factor: 0x1p20, growthInterval: 3)
        return trainer
      }
      let whole = try prepared(run(in: folder.path("whole")))
      _ = try whole.train()
      #expect(whole.state.skippedSteps > 0)

      var parts = run(in: folder.path("parts"))
      let first = try prepared(parts)
      first.shouldStop = { [unowned first] in first.state.globalStep == 6 }
      #expect(throws: TrainingInterrupted.self) { try first.train() }
      parts.arguments.resumeFromCheckpoint = .latest
      let second = try parts.trainer()
      _ = try second.train()
      #expect(try second.weights == whole.weights)
      #expect(second.state.lossScale == whole.state.lossScale)
      #expect(second.state.skippedSteps == whole.state.skippedSteps)
    }

    @Test("a device that gives no products in float16 is refused by name")
    func unsupportedDevice() throws {
      try Device.cpu.checkHalfPrecision()
      // One that computes no numbers at all.
      let text = message { try Device.meta.checkHalfPrecision() }
      #expect(
        text.contains("`fp16: true`") && text.contains("the device meta") && text.contains("bf16"), "\(text)")
    }

    @Test("fp16 and bf16 together are refused")
    func both() {
      var arguments = TrainingArguments()
      arguments.fp16 = true
      arguments.bf16 = true
      #expect(message { try arguments.validate(hasValidationData: false) }.contains("keep one of the two"))
    }
  }
}
