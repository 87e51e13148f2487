import Foundation
import Generation
import Models
import TestSupport
import Testing
import Torch

@Suite("Generation with virtual tokens")
struct VirtualTokenGenerationTests {
  /// A tiny model with four virtual tokens, as embeddings or as keys and values.
  private func load(asPrefix: Bool) throws -> any CausalLanguageModel {
    let model = try AutoModelForCausalLM.fromPretrained(
      Fixture.models.appending(path: "llama-grouped-query").path, dtype: .float32, device: testDevice)
    try RandomState.seed(4)
    let shape = model.attentionShape
    func tensor() throws -> Tensor {
      try .normal([4, shape.keyValueHeadCount, shape.headDimension], device: testDevice)
    }
    let layers = try (0..<model.layerCount).map { _ in (keys: try tensor(), values: try tensor()) }
    let vectors = try Tensor.normal([4, model.hiddenSize], device: testDevice)
    model.virtualTokens = VirtualTokens(count: 4) { asPrefix ? .keysAndValues(layers) : .embeddings(vectors) }
    return model
  }

  @Test(
    "a conversation whose beginning has been read is continued as one that has not", arguments: [false, true])
  func conversation(asPrefix: Bool) throws {
    let model = try load(asPrefix: asPrefix)
    let config = GenerationConfig(maxNewTokens: 8, eosTokenIDs: [])
    let (fresh, continued) = (Generator(model), Generator(model))
    continued.conversation = ReadPrefix(model)
    let start = try Fixture.tokens("llama-grouped-query", "input_ids")[1]
    var prompt = start
    var read: [Int] = []
    // The answer is taken over but for its end; then the conversation begins again; then another one begins.
    for turn in 0..<5 {
      let expected = try fresh.generate([prompt], config)
      #expect(try continued.generate([prompt], config) == expected)
      read.append(continued.statistics.promptTokens)
      switch turn {
      case 0, 1: prompt += expected[0].tokens.dropLast(2) + [3, 4]
      case 2: prompt = Array(start.dropLast(5)) + [7]
      default: prompt = [9] + start
      }
    }
    #expect(read == [23, 2, 2, 1, 24])
  }

  @Test("several prompts at a time give what each gives alone", arguments: [false, true])
  func batch(asPrefix: Bool) throws {
    let model = try load(asPrefix: asPrefix)
    let prompts = try Fixture.tokens("llama-grouped-query", "input_ids")
    let config = GenerationConfig(maxNewTokens: 8, eosTokenIDs: [])
    let together = try Generator(model).generate(prompts, config)
    for (prompt, output) in zip(prompts, together) {
      #expect(try Generator(model).generate([prompt], config)[0].tokens == output.tokens)
    }
    model.virtualTokens = nil
    #expect(try Generator(model).generate(prompts, config).map(\.tokens) != together.map(\.tokens))
  }

  @Test("virtual tokens take their part of the context")
  func context() throws {
    let model = try load(asPrefix: false)
    let generator = Generator(model)
    let config = GenerationConfig(maxNewTokens: 50, eosTokenIDs: [])
    let output = try generator.generate([Array(repeating: 5, count: model.contextLength - 4 - 3)], config)[0]
    #expect(output.tokens.count == 3)
    #expect(output.finishReason == .contextLength)
    let error = #expect(throws: GenerationError.self) {
      try generator.generate([Array(repeating: 5, count: model.contextLength - 4)], config)
    }
    #expect("\(error!)".contains("has 60 tokens") && "\(error!)".contains("4 virtual tokens"))
  }
}
