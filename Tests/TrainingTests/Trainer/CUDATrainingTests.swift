import Adapters
import Datasets
import Models
import Testing
import Torch
import Training

extension TrainerTests {
  /// Whole runs on a GPU beside the processor's.
  @Suite(
    "Training on a GPU",
    .enabled(if: (try? Engine.prepare(.cuda)) != nil, "the engine finds no CUDA device on this machine"))
  struct CUDATraining {
    private func losses(_ run: TinyRun, _ device: Device, quantization: BaseQuantization? = nil) throws
      -> [Double]
    {
      Engine.threadCount = 1
      try RandomState.seed(99)
      let base = try AutoModelForCausalLM.fromPretrained(
        tinyBase(quantization == nil ? run.base : "quantized/base"), dtype: run.dtype, device: device,
        quantization: quantization)
      let model = try PEFTModel(base, run.adapter)
      // A GPU draws other numbers.
      try RandomState.seed(5)
      for (_, parameter) in model.trainableParameters {
        let start = try Tensor.normal(parameter.shape, standardDeviation: 0.02).to(device: device)
        try start.setRequiresGradient(true)
        parameter.value = start
      }
      let trainer = try Trainer(
        model: model, arguments: run.arguments, trainDataset: ExampleList(run.rows))
      let recorder = Recorder()
      trainer.log = recorder
      try trainer.train()
      #expect(trainer.model.trainableParameters.allSatisfy { $0.parameter.value.device.kind == device.kind })
      return recorder.steps.map(\.loss)
    }

    @Test(
      "ten losses are the processor's",
      arguments: ["plain", "checkpointing", "offloading", "adamw_8bit", "paged_adamw_32bit", "nf4", "int8"])
    func tenLosses(_ name: String) throws {
      var run = TinyRun(in: nil)
      var quantization: BaseQuantization?
      switch name {
      case "checkpointing": run.arguments.gradientCheckpointing = true
      case "offloading":
        run.arguments.gradientCheckpointing = true
        run.arguments.activationOffloading = true
      case "nf4": quantization = .bitsAndBytes(BitsAndBytesConfig(.fourBit(.nf4, doubleQuantization: true)))
      case "int8": quantization = .bitsAndBytes(BitsAndBytesConfig(.int8))
      case "plain": break
      default: run.arguments.optim = try #require(OptimizerChoice(name))
      }
      let (there, here) = (
        try losses(run, .cuda, quantization: quantization), try losses(run, .cpu, quantization: quantization)
      )
      #expect(there.count == 10 && here.count == 10)
      for (a, b) in zip(there, here) { #expect(abs(a - b) < 1e-3 * b) }
    }
  }
}
