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
  @Suite("AdaLoRA's allocation")
  struct AdaLoRAAllocation {
    private func trainer(_ configuration: AdaLoRAConfig, in folder: String?, steps: Int) throws -> Trainer {
      let run = TinyRun(in: folder, steps: steps, learningRate: 2e-2)
      Engine.threadCount = 1
      try RandomState.seed(5)
      let model = try PEFTModel(
        AutoModelForCausalLM.fromPretrained(
          tinyBase("llama-grouped-query"), dtype: .float32, device: testDevice), configuration)
      return try Trainer(model: model, arguments: run.arguments, trainDataset: ExampleList(run.rows))
    }

    private func ranks(_ model: PEFTModel) throws -> [Int] {
      let configuration = try #require(model.configuration("default") as? AdaLoRAConfig)
      return try #require(configuration.rankPattern).values.map { $0.count { $0 } }
    }

    @Test("it runs by itself over the steps of the run, and ends at the target", arguments: [0, 3])
    func schedule(_ tfinal: Int) throws {
      let trainer = try trainer(
        AdaLoRAConfig(
          targetR: 2, initR: 5, tinit: 2, tfinal: tfinal, targetModules: ["q_proj", "v_proj", "up_proj"]),
        in: nil, steps: 14)
      try trainer.train()
      let configuration = try #require(trainer.model.configuration("default") as? AdaLoRAConfig)
      #expect(configuration.totalStep == 14)
      let ranks = try ranks(trainer.model)
      #expect(ranks.count == 6 && ranks.reduce(0, +) == 12)
      // Not alike everywhere: something was decided.
      #expect(Set(ranks).count > 1)
    }

    @Test("the saved adapter holds the triplets that live, and computes the same")
    func saved() throws {
      let folder = try TemporaryFolder()
      let trainer = try trainer(
        AdaLoRAConfig(targetR: 1, initR: 4, tinit: 1, tfinal: 2, targetModules: ["q_proj", "v_proj"]),
        in: nil, steps: 12)
      try trainer.train()
      func logits(_ model: PEFTModel) throws -> Tensor {
        try withoutGradient {
          try model.base.logits(ModelInput([[4, 8, 15, 16, 23, 42]], device: testDevice))
        }
      }
      try trainer.model.savePretrained(folder.path("adapter"))
      let loaded = try PEFTModel(
        AutoModelForCausalLM.fromPretrained(
          tinyBase("llama-grouped-query"), dtype: .float32, device: testDevice))
      try loaded.loadAdapter(folder.path("adapter"))
      #expect(try ranks(loaded) == ranks(trainer.model))
      // Triplets that are not there are not added up, so the order of the sum is another.
      let difference = try (logits(loaded) - logits(trainer.model)).absolute().max().item()
      #expect(difference < 1e-5)
      #expect(loaded.parameterCounts.trainable < trainer.model.parameterCounts.trainable / 2)

      // Trained again, what is left is pruned further, and its places are still those of the first start.
      try loaded.savePretrained(folder.path("again"))
      let pruned = try #require(loaded.configuration("default") as? AdaLoRAConfig).rankPattern
      let again = try #require(
        PEFTModel.readConfiguration(folder.url.appending(path: "again")) as? AdaLoRAConfig)
      #expect(again.rankPattern == pruned)
    }

    @Test("the best checkpoint of a run loads into the model that is being trained")
    func bestCheckpoint() throws {
      let folder = try TemporaryFolder()
      let run = TinyRun(in: folder.path("run"), steps: 12, learningRate: 2e-2)
      var arguments = run.arguments
      arguments.evalStrategy = .steps
      arguments.evalSteps = 4
      arguments.saveSteps = 4
      arguments.loadBestModelAtEnd = true
      Engine.threadCount = 1
      let model = try PEFTModel(
        AutoModelForCausalLM.fromPretrained(
          tinyBase("llama-grouped-query"), dtype: .float32, device: testDevice),
        AdaLoRAConfig(targetR: 1, initR: 4, tfinal: 2, targetModules: ["q_proj", "v_proj"]))
      let trainer = try Trainer(
        model: model, arguments: arguments, trainDataset: ExampleList(run.rows),
        evalDataset: ExampleList(randomRows(5, seed: 11)))
      try trainer.train()
      let best = try #require(trainer.state.bestModelCheckpoint)
      let loaded = try PEFTModel(
        AutoModelForCausalLM.fromPretrained(
          tinyBase("llama-grouped-query"), dtype: .float32, device: testDevice))
      try loaded.loadAdapter(best)
      func logits(_ model: PEFTModel) throws -> Tensor {
        try withoutGradient {
          try model.base.logits(ModelInput([[4, 8, 15, 16, 23, 42]], device: testDevice))
        }
      }
      #expect(try (logits(loaded) - logits(model)).absolute().max().item() < 1e-5)
    }
  }
}
