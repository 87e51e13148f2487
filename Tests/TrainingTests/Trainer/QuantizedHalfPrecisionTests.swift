import Adapters
import Datasets
import Foundation
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch
import Training

extension TrainerTests {
  /// fp16 with dynamic loss scaling on bases held in few bits.
  @Suite("Half precision on quantized bases")
  struct QuantizedHalfPrecision {
    private static let forms: [String: BaseQuantization] = [
      "nf4": .bitsAndBytes(BitsAndBytesConfig(.fourBit(.nf4, doubleQuantization: false))),
      "nf4-double": .bitsAndBytes(BitsAndBytesConfig(.fourBit(.nf4, doubleQuantization: true))),
      "int8": .bitsAndBytes(BitsAndBytesConfig(.int8)), "gguf": .packed,
    ]

    /// Blocks of GGUF files stay packed on the processor only.
    private static let storages = forms.keys.sorted().filter { $0 != "gguf" || testDevice == .cpu }

    private func trainer(_ form: String, _ dtype: DType, steps: Int = 10) throws -> Trainer {
      var run = TinyRun(in: nil, steps: steps)
      run.arguments.fp16 = dtype == .float16
      let name = form == "gguf" ? "gguf/llama-grouped-query-q8_0.gguf" : "quantized/base"
      let quantization = try #require(Self.forms[form])
      let base = try AutoModelForCausalLM.fromPretrained(
        tinyBase(name), dtype: dtype, device: testDevice, quantization: quantization)
      let layers = base.namedModules().compactMap { $0.module as? NeuralNetworks.Linear }
      #expect(layers.contains { $0.weight.quantized != nil })
      Engine.threadCount = 1
      try RandomState.seed(99)
      return try Trainer(
        model: PEFTModel(base, run.adapter), arguments: run.arguments, trainDataset: ExampleList(run.rows))
    }

    @Test("training in fp16 follows fp32 on every storage", arguments: storages)
    func follows(_ form: String) throws {
      let (half, single) = (Recorder(), Recorder())
      for (dtype, recorder) in [(DType.float16, half), (.float32, single)] {
        let trainer = try trainer(form, dtype)
        trainer.log = recorder
        try trainer.train()
        #expect(trainer.model.trainableParameters.allSatisfy { $0.parameter.value.dtype == .float32 })
      }
      #expect(half.steps.count == 10 && half.skipped.isEmpty)
      for (a, b) in zip(half.steps, single.steps) {
        // 11 bits of mantissa in every product, over a few layers and ten steps.
        #expect(abs(a.loss - b.loss) < 1e-2 * b.loss, "step \(a.step)")
        #expect(abs(a.gradientNorm - b.gradientNorm) < 5e-2 * b.gradientNorm, "step \(a.step)")
        #expect(a.lossScale == 65_536)
      }
    }

    @Test(
      "training with products of bytes follows training on the decoded weights",
      .enabled(if: Engine.hasByteProducts && testDevice == .cpu))
    func bytes() throws {
      let (bytes, decoded) = (Recorder(), Recorder())
      for (multiplies, recorder) in [(true, bytes), (false, decoded)] {
        let trainer = try trainer("int8", .bfloat16)
        for case let layer as NeuralNetworks.Linear in trainer.model.base.namedModules().map(\.module) {
          (layer.weight as? Int8Weight)?.multipliesBytes = multiplies
        }
        trainer.log = recorder
        try trainer.train()
      }
      #expect(bytes.steps.count == 10)
      // Otherwise it was the same thing twice.
      #expect(zip(bytes.steps, decoded.steps).contains { $0.loss != $1.loss })
      for (a, b) in zip(bytes.steps, decoded.steps) {
        #expect(abs(a.loss - b.loss) < 1e-2 * b.loss, "step \(a.step)")
      }
    }

    @Test(
      "a gradient that overflows on a quantized base is named and its step skipped",
      arguments: storages)
    func overflow(_ form: String) throws {
      let trainer = try trainer(form, .float16, steps: 30)
      let recorder = Recorder()
      trainer.log = recorder
      trainer.state.lossScale = LossScale(factor: 0x1p30)
      let before = try trainer.weights
      try trainer.train()
      #expect(recorder.skipped.count > 2 && recorder.skipped.count < 30)
      for report in recorder.skipped {
        guard case .overflow(let parameter, _) = report.reason else {
          Issue.record("\(report.reason)")
          continue
        }
        #expect(before.keys.contains(parameter))
      }
      #expect(try trainer.weights != before)
    }
  }
}
