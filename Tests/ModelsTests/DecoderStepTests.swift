import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Generation's single tokens, which one kernel takes through whole layers, beside reading everything at once, which goes part by part and
// agrees with transformers (FamilyTests). The fixtures' heads are too small for the kernel; these models are made of random numbers.

@Suite struct DecoderStepTests {
  /// Two layers with heads of 64, biases, and a window of 40 tokens in the second.
  private func model(_ dtype: DType) throws -> DecoderForCausalLM {
    try RandomState.seed(5)
    let json = try JSONValue(
      parsing: Data(
        """
        {"model_type": "qwen2", "vocab_size": 97, "hidden_size": 192, "intermediate_size": 208, "num_hidden_layers": 2,
         "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "hidden_act": "silu", "rms_norm_eps": 1e-5,
         "max_position_embeddings": 4096, "rope_theta": 10000.0, "use_sliding_window": true, "sliding_window": 40,
         "max_window_layers": 1}
        """.utf8))
    let configuration = ModelConfiguration(json: json, source: "config.json")
    let family = try ModelFamily.of(configuration)
    let model = try #require(try family.make(configuration, family, .causalLM) as? DecoderForCausalLM)
    for (name, parameter) in model.namedParameters() {
      let width = Double(parameter.shape.last ?? 1)
      let deviation = name.contains("norm") ? 0.1 : name.contains("embed") ? 1 : 1 / width.squareRoot()
      let mean = name.contains("norm") ? 1.0 : 0
      parameter.value = try Tensor.normal(parameter.shape, mean: mean, standardDeviation: deviation).to(dtype)
    }
    try model.model.optimizeLayout()
    return model
  }

  /// Of lengths on both sides of the window, and of one that is attended to in two parts.
  private let prompts: [[Int32]] = [3, 1, 45, 510].map { count in (0..<count).map { Int32($0 * 31 % 97) } }
  private let continuation: [[Int32]] = [[5, 96, 0, 41], [7, 7, 7, 7], [1, 2, 3, 4], [90, 80, 70, 60]]

  @Test(
    "tokens read one by one give the logits of reading all at once", arguments: [DType.float32, .bfloat16])
  func singleTokens(_ dtype: DType) throws {
    let model = try model(dtype)
    let best = Engine.kernelVariant
    defer { Engine.kernelVariant = best }
    for variant in 0...best {
      Engine.kernelVariant = variant
      let cache = model.makeCache(sequenceCount: prompts.count)
      _ = try withoutGradient { try model.nextTokenLogits(ModelInput(prompts, cache: cache)) }
      var read = prompts
      for step in 0..<4 {
        let next = continuation.map { [$0[step]] }
        read = zip(read, next).map { $0 + $1 }
        let found = try withoutGradient { try model.nextTokenLogits(ModelInput(next, cache: cache)) }
        let wanted = try withoutGradient { try model.nextTokenLogits(ModelInput(read)) }
        // bf16: two layers of rounding to 8 bits, at places that differ with the order of sums.
        #expect(
          try relativeError(found, wanted) < (dtype == .float32 ? 1e-5 : 3e-2),
          "step \(step), form \(variant)")
        #expect(cache.lengths == read.map(\.count))
      }
    }
  }

  @Test("a sequence's logits do not depend on what is generated beside it, to the bit")
  func independence() throws {
    let model = try model(.bfloat16)
    func logits(_ rows: [Int]) throws -> [[Double]] {
      let cache = model.makeCache(sequenceCount: rows.count)
      // One by one from the beginning: prompts are read by kernels that do not promise it.
      var result: [[Double]] = []
      for step in 0..<4 {
        let input = try ModelInput(rows.map { [continuation[$0][step]] }, cache: cache)
        let logits = try withoutGradient { try model.nextTokenLogits(input) }
        result = try rows.indices.map { try logits.slice($0..<$0 + 1).doubles() }
      }
      return result
    }
    let together = try logits([0, 1, 2, 3])
    for row in 0..<4 { #expect(try logits([row]) == [together[row]]) }
  }

  @Test(
    "packed weights give the same logits, to the bit, until they are others",
    .enabled(if: PackedMatrix.isSupported, "this processor multiplies no packed weights"))
  func packedWeights() throws {
    let model = try model(.bfloat16)
    for (_, parameter) in model.namedParameters() where parameter.shape.count == 2 {
      // A few powers of two apart, so that no number is an exception, whose product would be added last.
      parameter.value = try (parameter.value.to(.float32) * 64).to(.int8).to(.bfloat16) / 64
    }
    try model.model.optimizeLayout()
    func logits() throws -> [[Double]] {
      let cache = model.makeCache(sequenceCount: 3)
      return try (0..<4).map { step in
        let input = try ModelInput(continuation[..<3].map { [$0[step]] }, cache: cache)
        return try withoutGradient { try model.nextTokenLogits(input).doubles() }
      }
    }
    func pack() throws -> Int {
      try model.packableWeights.reduce(0) { count, weight in
        let plain = try #require(weight.plain)
        guard plain.packed == nil, let matrix = try PackedMatrix(plain.weight) else { return count }
        #expect(matrix.byteCount < plain.weight.byteCount * 4 / 5)
        #expect(try matrix.unpacked().doubles() == plain.weight.doubles())
        weight.pack(matrix)
        return count + 1
      }
    }
    let before = try logits()
    // Of each layer the three matrices with columns of whole groups, and the head.
    #expect(try pack() == 7)
    #expect(try logits() == before)
    #expect(try pack() == 0)

    let output = model.model.layers[0].selfAttn.oProj
    try output.weight.parameter?.value.copyInPlace(output.weight.dense() * 2)
    #expect(output.plain?.packed == nil)
    try model.lmHead.weight.replace(with: model.lmHead.weight.dense() * -1)
    #expect(model.lmHead.plain?.packed == nil)
    let changed = try logits()
    #expect(changed != before)
    #expect(try pack() == 2)
    #expect(try logits() == changed)

    try model.lmHead.weight.parameter?.setTrainable(true)
    #expect(model.packableWeights.isEmpty)
  }

  @Test("the kernel leaves layers alone that something is put around, and several tokens")
  func conditions() throws {
    let model = try model(.float32)
    let layer = model.model.layers[0]
    func isTaken(_ lengths: [Int] = [1, 1]) throws -> Bool {
      let cache = model.makeCache(sequenceCount: lengths.count)
      let layout = try RaggedLayout(lengths: lengths)
      let rotary = try model.model.rotaryEmb(layout, lengths: lengths)
      let input = try Tensor.normal([layout.tokenCount, 192])
      return try withoutGradient { try layer.step(input, rotary: rotary, layout: layout, cache: cache) }
        != nil
    }
    #expect(try isTaken())
    #expect(try !isTaken([2, 1]))
    #expect(try !isTaken([2, 0]))

    final class Doubling: LinearAdapter {
      func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
        try next(input) * 2
      }
    }
    for linear in [layer.selfAttn.kProj, layer.selfAttn.oProj, layer.mlp.upProj, layer.mlp.downProj] {
      linear.adapters = [Doubling()]
      #expect(try !isTaken())
      linear.adapters = []
    }
    #expect(try isTaken())
    // A merged weight takes the place of the one that was laid beside others.
    let merged = layer.mlp.gateProj
    try merged.weight.replace(with: merged.weight.dense() * 2)
    #expect(try !isTaken())
    try model.model.optimizeLayout()
    #expect(try isTaken())
    try layer.inputLayernorm.weight.setTrainable(true)
    #expect(try !isTaken())
  }
}
