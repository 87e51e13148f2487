import Adapters
import Datasets
import Foundation
import JSON
import Models
import TestSupport
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
      arguments: [
        "plain", "bfloat16", "checkpointing", "offloading", "adamw_8bit", "paged_adamw_32bit",
        "paged_adamw_8bit",
        "lion_8bit", "adafactor", "nf4", "fp4", "int8",
      ])
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
      case "fp4": quantization = .bitsAndBytes(BitsAndBytesConfig(.fourBit(.fp4, doubleQuantization: false)))
      case "bfloat16":
        run.dtype = .bfloat16
        run.arguments.bf16 = true
      case "plain": break
      default: run.arguments.optim = try #require(OptimizerChoice(name))
      }
      let (there, here) = (
        try losses(run, .cuda, quantization: quantization), try losses(run, .cpu, quantization: quantization)
      )
      #expect(there.count == 10 && here.count == 10)
      // 8 bits of mantissa in every product.
      let tolerance = name == "bfloat16" ? 2e-2 : 1e-3
      for (a, b) in zip(there, here) { #expect(abs(a - b) < tolerance * b) }
    }

    @Test("the state of a GPU's generator is taken up again, and a seed means the same twice")
    func randomState() throws {
      func draw() throws -> [Float] { try Tensor.normal([100], device: .cuda).floats() }
      try RandomState.seed(3)
      let state = try RandomState.capture(.cuda)
      let first = try draw()
      #expect(try draw() != first)
      try RandomState.restore(state, device: .cuda)
      #expect(try draw() == first)
      try RandomState.seed(3)
      #expect(try draw() == first)
      #expect(throws: TorchError.self) { try RandomState.restore([1, 2, 3], device: .cuda) }
    }

    @Test("the program trains, goes on, measures, generates, merges and plans on a GPU")
    func program() throws {
      let folder = try TemporaryFolder()
      try writeLetterModel(to: folder.url.appending(path: "model"))
      let rows = (0..<24).map { row in
        let letters = String(repeating: "abcdefgh ", count: 1 + row % 3).dropFirst(row % 7)
        return #"{"text": "\#(letters)"}"#
      }
      try rows.joined(separator: "\n").write(
        toFile: folder.path("rows.jsonl"), atomically: true, encoding: .utf8)
      try """
      model_name_or_path: model
      train_file: rows.jsonl
      validation_file: rows.jsonl
      device: cuda
      bf16: true
      max_steps: 4
      save_steps: 2
      eval_strategy: steps
      eval_steps: 2
      per_device_train_batch_size: 4
      max_length: 32
      lora_dropout: 0.1
      target_modules: all-linear
      output_dir: run
      """.write(toFile: folder.path("run.yaml"), atomically: true, encoding: .utf8)
      @discardableResult
      func graft(_ arguments: [String], location: SourceLocation = #_sourceLocation) throws -> String {
        let outcome = try Program.run(arguments, in: folder.url)
        #expect(outcome.code == 0, "\(arguments): \(outcome.messages)", sourceLocation: location)
        return outcome.output
      }
      try graft(["train", "run.yaml"])
      try graft(["train", "run.yaml", "--resume", "--set", "max_steps=6"])
      #expect(FileManager.default.fileExists(atPath: folder.path("run/checkpoint-6")))
      let losses = try ["cuda", "cpu"].map { device in
        let report = try graft(["evaluate", "run", "rows.jsonl", "--device", device, "--json"])
        return try #require(JSONValue(parsing: report)["loss"]?.doubleValue)
      }
      #expect(abs(losses[0] - losses[1]) < 2e-2 * losses[1], "\(losses)")
      let generate = ["--raw", "--device", "cuda", "--max-new-tokens", "6", "abc"]
      try graft(["generate", "run"] + generate)
      try graft(["merge", "model", "--adapter", "run", "--output", "merged", "--device", "cuda"])
      try graft(["generate", "merged"] + generate)
      try graft(["generate", "merged", "--temperature", "1", "--seed", "3"] + generate)
      try graft(["plan", "run.yaml", "--json"])
      try graft(["inspect", "run"])
      let engine = try JSONValue(parsing: graft(["engine", "--json"]))
      #expect(engine["cuda_devices"]?.intValue ?? 0 >= 1 && engine["cuda_problem"] == nil)
    }
  }
}
