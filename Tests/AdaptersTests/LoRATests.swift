import Adapters
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

@Suite struct LoRATests {
  private let attention: ModuleSelection = ["q_proj", "k_proj", "v_proj", "o_proj"]

  private func parameters(_ model: PEFTModel, _ part: String) -> [Tensor] {
    model.trainableParameters.filter { $0.key.contains(part) }.map(\.parameter.value)
  }

  // MARK: Start

  @Test("A starts uniform as PyTorch's linear layers, or normal with deviation 1 / r; B starts at zero")
  func initialization() throws {
    try RandomState.seed(3)
    let ranks = [("q_proj", 16), ("o_proj", 4)]
    for gaussian in [false, true] {
      let model = try PEFTModel(
        base("llama-grouped-query"),
        LoRAConfig(
          r: 16, targetModules: attention, initLoRAWeights: gaussian ? .gaussian : .kaiming,
          rankPattern: ["o_proj": 4]))
      for (name, rank) in ranks {
        let values = try parameters(model, "\(name).lora_A").flatMap { try $0.doubles() }
        #expect(values.count == 2 * rank * 32)
        let mean = values.reduce(0, +) / Double(values.count)
        let deviation = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count))
          .squareRoot()
        let bound = 1 / 32.0.squareRoot()
        let wanted = gaussian ? 1 / Double(rank) : bound / 3.0.squareRoot()
        // Four standard errors of each estimate.
        let error = 4 * wanted / Double(values.count).squareRoot()
        #expect(abs(mean) < error && abs(deviation - wanted) < error, "\(name), gaussian: \(gaussian)")
        if !gaussian { #expect(values.allSatisfy { abs($0) <= bound }) }
        #expect(Set(values).count > values.count / 2)
      }
      for b in parameters(model, "lora_B") { #expect(try b.absolute().max().item() == 0) }
    }
  }

  @Test("the same seed starts the same adapter")
  func seed() throws {
    func start(_ seed: UInt64) throws -> [Float] {
      try RandomState.seed(seed)
      let model = try PEFTModel(base("llama-grouped-query"), LoRAConfig(targetModules: attention))
      return try parameters(model, "lora_A").flatMap { try $0.floats() }
    }
    #expect(try start(1) == start(1))
    #expect(try start(1) != start(2))
  }

  @Test("`init_lora_weights: false` starts with an adapter that does something")
  func randomStart() throws {
    let adapter = try AdapterFixture("attention")
    let model = try PEFTModel(
      base("llama-grouped-query"),
      LoRAConfig(targetModules: attention, initLoRAWeights: .random))
    #expect(try adapter.error(model.base, "base_logits") > 1e-3)
  }

  // MARK: Gradients

  @Test("gradients of A and B are those of the merged matrix, through its factors")
  func gradients() throws {
    let adapter = try AdapterFixture("attention")
    let model = try adapter.load()
    try loss(model.base, adapter.sequences).backward()
    var found: [String: Tensor] = [:]
    for (key, parameter) in model.trainableParameters { found[key] = parameter.value.gradient }

    // W' = W + s B A, so that dB = s dW' Aᵀ and dA = s Bᵀ dW'.
    let scale = 2.0  // lora_alpha 16, r 8
    try model.mergeAdapter()
    let merged = try model.targets("default").map { ($0, try #require(model.base.module(at: $0) as? Linear)) }
    for (_, layer) in merged { try layer.weight.parameter?.setTrainable(true) }
    try loss(model.base, adapter.sequences).backward()
    let gradients = try merged.map { ($0.0, try #require($0.1.weight.parameter?.value.gradient)) }
    try model.unmergeAdapter()
    let values = Dictionary(
      uniqueKeysWithValues: model.trainableParameters.map { ($0.key, $0.parameter.value) })
    for (path, gradient) in gradients {
      let (a, b) = (
        try #require(values["\(path).lora_A.weight"]), try #require(values["\(path).lora_B.weight"])
      )
      let (wantedA, wantedB) = try withoutGradient {
        (try b.transposed().matmul(gradient) * scale, try gradient.matmul(a.transposed()) * scale)
      }
      #expect(try relativeError(#require(found["\(path).lora_A.weight"]), wantedA) < 1e-4, "\(path)")
      #expect(try relativeError(#require(found["\(path).lora_B.weight"]), wantedB) < 1e-4, "\(path)")
    }
  }

  @Test(
    "a few steps along the gradient lower the loss, and the base stays as it was", arguments: adapterFixtures)
  func descent(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try PEFTModel(base(adapter.baseName), PEFTModel.readConfiguration(fixture(name)))
    var losses: [Double] = []
    for _ in 0..<6 { losses.append(try descend(model, adapter.sequences, by: 0.01)) }
    #expect(try #require(losses.last) < losses[0] - 1e-3, "\(losses)")
    try model.setAdapters([])
    #expect(try adapter.logits(model.base) == adapter.logits(base(adapter.baseName)))
  }

  // MARK: Dropout

  @Test("features are dropped in training alone, and the same ones for the same seed")
  func dropout() throws {
    let adapter = try AdapterFixture("attention")  // lora_dropout 0.1
    let model = try adapter.load()
    let still = try adapter.logits(model.base)
    #expect(try adapter.logits(model.base) == still)
    model.isTraining = true
    func logits(_ seed: UInt64) throws -> [Float] {
      try RandomState.seed(seed)
      return try adapter.logits(model.base)
    }
    #expect(try logits(1) != still)
    #expect(try logits(1) == logits(1))
    #expect(try logits(1) != logits(2))
    try model.withAdaptersDisabled { () throws in
      #expect(try adapter.error(model.base, "base_logits") < 1e-5)
    }
    // An adapter that joins while training trains as well.
    try model.addAdapter(
      "late", LoRAConfig(loraDropout: 0.5, targetModules: attention, initLoRAWeights: .random))
    try model.setAdapter("late")
    #expect(try logits(1) != logits(2))
    model.isTraining = false
    #expect(try logits(1) == logits(2))
    try model.setAdapter("default")
    #expect(try adapter.logits(model.base) == still)
  }

  @Test("dropping keeps the mean, and gradient checkpointing drops the same features again")
  func dropoutStatistics() throws {
    let adapter = try AdapterFixture("attention")
    let model = try adapter.load()
    model.isTraining = true
    func gradients(checkpointing: Bool) throws -> [[Float]] {
      model.base.usesGradientCheckpointing = checkpointing
      try RandomState.seed(11)
      try loss(model.base, adapter.sequences).backward()
      return try model.trainableParameters.map { _, parameter in
        defer { try? parameter.value.setGradient(nil) }
        return try #require(parameter.value.gradient).floats()
      }
    }
    #expect(try gradients(checkpointing: false) == gradients(checkpointing: true))

    // One layer: the mean over many masks is what there is without any.
    model.base.usesGradientCheckpointing = false
    let layer = try #require(model.base.module(at: "model.layers.0.self_attn.q_proj") as? Linear)
    let input = try Tensor.normal([1, 32], device: testDevice)
    model.isTraining = false
    let still = try withoutGradient { try layer(input) }
    model.isTraining = true
    let many = try withoutGradient { try layer(input.expanded([20_000, 32]).contiguous()) }
    let low = try withoutGradient { try still - layer.base(input) }
    #expect(try relativeError(many.mean(0, keepingDimension: true) - layer.base(input), low) < 0.05)
  }

  // MARK: Weights of other types, ties

  @Test("over a bf16 base the adapter is trained in fp32, and merged into bf16")
  func bfloat16() throws {
    let folder = fixture("").deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("ModelsTests/Fixtures/llama-grouped-query")
    let adapter = try AdapterFixture("attention")
    let model = try PEFTModel(
      AutoModelForCausalLM.fromPretrained(folder.path, dtype: .bfloat16, device: testDevice))
    try model.loadAdapter(adapter.path)
    func error(_ key: String) throws -> Double {
      let logits = try withoutGradient {
        try model.base.logits(ModelInput([adapter.sequences[1]], device: testDevice))
      }
      #expect(logits.dtype == .bfloat16)
      let wanted = try adapter.expected.tensor("\(key).1")
      return try (logits.to(.float32, device: .cpu) - wanted).norm().item() / wanted.norm().item()
    }
    #expect(try error("logits") < 0.05)
    let loss = try loss(model.base, adapter.sequences)
    try loss.backward()
    for (key, parameter) in model.trainableParameters {
      #expect(parameter.value.dtype == .float32, "\(key)")
      #expect(try #require(parameter.value.gradient).dtype == .float32, "\(key)")
    }
    try model.mergeAdapter()
    #expect(try error("logits") < 0.05)
    #expect(model.base.parameters().allSatisfy { $0.value.dtype == .bfloat16 })
    try model.unmergeAdapter()
    try model.setAdapters([])
    #expect(try error("base_logits") < 0.05)
  }

  @Test("merging into one of two tied matrices leaves the other")
  func ties() throws {
    for (name, merged, other) in [
      ("embedding-tied", "model.embed_tokens", "lm_head"), ("lm-head-tied", "lm_head", "model.embed_tokens"),
    ] {
      let adapter = try AdapterFixture(name)
      let model = try adapter.load()
      #expect(model.base.tiesEmbeddings)
      let original = try base(adapter.baseName).inputEmbedding.weight.value.floats()
      try model.mergeAdapter()
      #expect(!model.base.tiesEmbeddings)
      func weight(_ path: String) throws -> [Float] {
        try #require(model.base.namedParameters().first { $0.path == path + ".weight" }).parameter.value
          .floats()
      }
      #expect(try weight(other) == original)
      #expect(try weight(merged) != original)
      try model.unmergeAdapter()
      #expect(model.base.tiesEmbeddings)
    }
  }

  @Test("a layer without bias refuses a merged `lora_bias`, and everything is as before")
  func mergeError() throws {
    let model = try PEFTModel(
      base("llama-grouped-query"),
      LoRAConfig(targetModules: ["q_proj", "v_proj"], bias: .all, modulesToSave: ["norm"], loraBias: true))
    let adapter = try AdapterFixture("attention")
    for (_, parameter) in model.trainableParameters {
      try parameter.value.copyInPlace(.normal(parameter.shape))
    }
    let before = try adapter.logits(model.base)
    expectError("q_proj", "lora_bias") { try model.mergeAdapter() }
    #expect(model.activeAdapters == ["default"] && model.mergedAdapters.isEmpty)
    #expect(try adapter.logits(model.base) == before)
  }

  @Test("several adapters of one layer add up whatever their order, dropout or bias")
  func sum() throws {
    let model = try PEFTModel(base("llama-biases"))
    for (name, loraBias) in [("one", false), ("two", true), ("three", false)] {
      try model.addAdapter(
        name, LoRAConfig(targetModules: attention, initLoRAWeights: .random, loraBias: loraBias))
    }
    let layer = try #require(model.base.module(at: "model.layers.0.self_attn.q_proj") as? Linear)
    let input = try Tensor.normal([7, 32], device: testDevice)
    let outputs = try withoutGradient {
      let base = try layer(input)
      return try ["one", "two", "three"].map { name in
        try model.setAdapter(name)
        return try layer(input) - base
      }.reduce(base) { try $0 + $1 }
    }
    for order in [["one", "two", "three"], ["three", "two", "one"], ["two", "one", "three"]] {
      try model.setAdapters(order)
      #expect(try withoutGradient { try relativeError(layer(input), outputs) } < 1e-5)
    }
  }
}
