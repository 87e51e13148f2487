import Foundation
import Generation
import JSON
import Models
import Testing
import Torch

@Suite("Packing of weights while text is generated")
struct WeightPackingTests {
  /// Large enough for the kernels of packed weights, which the fixtures are not.
  private func model() throws -> any CausalLanguageModel {
    try RandomState.seed(3)
    let json = try JSONValue(
      parsing: Data(
        """
        {"model_type": "llama", "vocab_size": 97, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 3,
         "num_attention_heads": 2, "num_key_value_heads": 1, "hidden_act": "silu", "rms_norm_eps": 1e-5,
         "max_position_embeddings": 256, "rope_theta": 10000.0}
        """.utf8))
    let configuration = ModelConfiguration(json: json, source: "config.json")
    let family = try ModelFamily.of(configuration)
    let model = try #require(try family.make(configuration, family, .causalLM) as? any CausalLanguageModel)
    for (_, parameter) in model.namedParameters() {
      let values = try Tensor.normal(parameter.shape, mean: parameter.shape.count == 1 ? 1 : 0)
      // A few powers of two apart, so that sums are the same to the bit.
      parameter.value = try (values * 16).to(.int8).to(.bfloat16) / 128
    }
    try model.optimizeLayout()
    return model
  }

  private func packedCount(_ model: any CausalLanguageModel) -> Int {
    model.packableWeights.count { $0.plain?.packed != nil }
  }

  @Test("answers are the same while weights are packed and when all are")
  func answers() throws {
    let model = try model()
    let prompts: [[Int32]] = [[1, 2, 3], [9, 8, 7, 6, 5]]
    var config = GenerationConfig(maxNewTokens: 2 * WeightPacking.steps, eosTokenIDs: [])
    config.packsWeights = false
    let expected = try Generator(model).generate(prompts, config).map(\.tokens)
    #expect(packedCount(model) == 0)
    config.packsWeights = true
    let packing = Generator(model)
    for _ in 0..<2 {
      #expect(try packing.generate(prompts, config).map(\.tokens) == expected)
      // Four of each layer, and the head.
      #expect(packedCount(model) == (PackedMatrix.isSupported ? 13 : 0))
    }
    #expect(Set(expected.joined()).count > 3)
  }

  @Test("a short answer packs a part")
  func parts() throws {
    let model = try model()
    _ = try Generator(model).generate([[1, 2]], GenerationConfig(maxNewTokens: 6, eosTokenIDs: []))
    let count = packedCount(model)
    #expect(PackedMatrix.isSupported ? (1..<13).contains(count) : count == 0)
  }

  @Test("nothing is packed where memory is scarce or unknown, and of models with weights in fp32")
  func conditions() throws {
    let model = try model()
    #expect(WeightPacking(of: model, availableMemory: 1 << 30).isDone == !PackedMatrix.isSupported)
    #expect(WeightPacking(of: model, availableMemory: 1 << 18).isDone)
    #expect(WeightPacking(of: model, availableMemory: nil).isDone)
    for (_, parameter) in model.namedParameters() { parameter.value = try parameter.value.to(.float32) }
    try model.optimizeLayout()
    var wide = WeightPacking(of: model, availableMemory: 1 << 30)
    while !wide.isDone { try wide.step() }
    #expect(packedCount(model) == 0)
  }
}
