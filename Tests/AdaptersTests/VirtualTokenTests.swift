import Adapters
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// What the methods with virtual tokens have beyond the suite of all methods.

@Suite struct VirtualTokenTests {
  /// fp32 sums in another order than PyTorch's, relative to the largest logit.
  private let tolerance = 1e-5

  /// One adapter of each method, on the same base.
  private let onLlama = ["prompt-tuning", "p-tuning-mlp", "prefix-tuning"]

  // MARK: With a cache

  @Test("generation through a cache continues as PEFT's model does", arguments: generatingFixtures)
  func generation(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try adapter.load().causalLanguageModel()
    let (sequences, virtual) = (try adapter.sequences, model.virtualTokens?.count ?? 0)
    let wanted = try (0..<2).map { try adapter.expected.tensor("generated.\($0)").integers() }
    let cache = model.makeCache(sequenceCount: 2)
    var input = try ModelInput(sequences, cache: cache, device: testDevice)
    var generated = sequences.map { _ in [Int]() }
    for _ in 0..<wanted[0].count {
      let next = try withoutGradient { try model.nextTokenLogits(input).argmax(-1).integers() }
      for (index, token) in next.enumerated() { generated[index].append(token) }
      input = try ModelInput(next.map { [Int32($0)] }, cache: cache, device: testDevice)
    }
    #expect(generated == wanted)
    #expect(cache.lengths == zip(sequences, wanted).map { virtual + $0.count + $1.count - 1 })
  }

  @Test(
    "reading in pieces, with sequences that begin later, gives the logits of reading at once",
    arguments: generatingFixtures)
  func cachedInPieces(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try adapter.load().causalLanguageModel()
    let sequences = try adapter.sequences
    let cache = model.makeCache(sequenceCount: 2)
    var found: [[Tensor]] = [[], []]
    // The second sequence begins with the second piece.
    for (first, second) in [(0..<2, 0..<0), (2..<3, 0..<9), (3..<6, 9..<17)] {
      let input = try ModelInput(
        [Array(sequences[0][first]), Array(sequences[1][second])], cache: cache, device: testDevice)
      let logits = try withoutGradient { try model.logits(input) }
      for (index, tokens) in input.layout.sequences.enumerated() where !tokens.isEmpty {
        found[index].append(try logits.slice(tokens))
      }
    }
    for index in 0..<2 {
      let logits = try Tensor.concatenated(found[index])
      #expect(try relativeError(logits, adapter.expected.tensor("logits.\(index)")) < tolerance)
    }
  }

  // MARK: Start

  @Test("TEXT starts at the embeddings of the text, repeated, as in PEFT")
  func textStart() throws {
    let adapter = try AdapterFixture("prompt-tuning-text")
    let text = try #require(adapter.configuration["prompt_tuning_init_text"]?.stringValue)
    let tokens = try #require(adapter.facts["initial_tokens"]?.arrayValue).compactMap(\.intValue).map(
      Int32.init)
    var configuration: any AdapterConfiguration = PromptTuningConfig(
      numVirtualTokens: 8, promptTuningInit: .text, promptTuningInitText: text)
    expectError("TEXT", "has no tokens") { _ = try PEFTModel(base(adapter.baseName), configuration) }
    try configuration.encodeTexts {
      #expect($0 == text)
      return tokens
    }
    let model = try PEFTModel(base(adapter.baseName), configuration)
    let start = try model.trainableParameters[0].parameter.value.floats()
    #expect(try start == adapter.expected.tensor("initial").floats())

    try configuration.encodeTexts { _ in [79, 80] }
    expectError("the token 80", "0 to 79") { _ = try PEFTModel(base(adapter.baseName), configuration) }
  }

  @Test("SAMPLE_VOCAB starts at embeddings of different tokens, RANDOM at a normal distribution")
  func otherStarts() throws {
    try RandomState.seed(5)
    let sampled = try PEFTModel(
      base("qwen2-tied"), PromptTuningConfig(numVirtualTokens: 40, promptTuningInit: .sampleVocabulary))
    let table = try sampled.base.inputEmbedding.weight.value.floats()
    let rows = Set(stride(from: 0, to: table.count, by: 32).map { Array(table[$0..<$0 + 32]) })
    let start = try sampled.trainableParameters[0].parameter.value.floats()
    let drawn = stride(from: 0, to: start.count, by: 32).map { Array(start[$0..<$0 + 32]) }
    #expect(drawn.allSatisfy(rows.contains))
    #expect(Set(drawn).count > 20)

    let random = try PEFTModel(base("qwen2-tied"), PromptTuningConfig(numVirtualTokens: 40))
    let values = try random.trainableParameters[0].parameter.value.floats().map(Double.init)
    let mean = values.reduce(0, +) / Double(values.count)
    let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
    // Four standard errors.
    #expect(abs(mean) < 4 / Double(values.count).squareRoot())
    #expect(abs(variance - 1) < 4 * (2 / Double(values.count)).squareRoot())
  }

  @Test("a prefix with `init_weights: zero` is zero at the start, with and without projection")
  func zeroStart() throws {
    for projects in [false, true] {
      let configuration = PrefixTuningConfig(
        numVirtualTokens: 3, prefixProjection: projects, startsAtZero: true)
      let model = try PEFTModel(base("llama-grouped-query"), configuration)
      try withTemporaryFolder { folder in
        try model.savePretrained(folder.path)
        let file = try SafetensorsFile(folder.appendingPathComponent("adapter_model.safetensors"))
        #expect(try file.tensor("prompt_embeddings").absolute().max().item() == 0)
      }
    }
  }

  // MARK: What a file loses

  @Test(
    "a file holds what the network gave, and a loaded adapter trains that",
    arguments: ["p-tuning-mlp", "p-tuning-lstm", "prefix-tuning-projection"])
  func networks(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    // The settings of a new adapter are those of the file without its saying that it is a file's.
    var fields = try #require(adapter.configuration.objectValue)
    fields["inference_mode"] = false
    let configuration = try AdapterMethod.named(#require(fields["peft_type"]?.stringValue), in: name)
      .configuration(AdapterFields(fields, source: name))
    let model = try PEFTModel(base(adapter.baseName), configuration)
    #expect(
      model.trainableParameters.map(\.key)
        == adapter.facts["trainable"]?.arrayValue?.compactMap(\.stringValue))
    let before = try adapter.logits(model.base)
    try withTemporaryFolder { folder in
      // Saving in the midst of training, dropout or not, saves the same.
      model.isTraining = true
      try model.savePretrained(folder.path)
      let loaded = try PEFTModel(base(adapter.baseName))
      try loaded.loadAdapter(folder.path)
      #expect(try adapter.logits(loaded.base) == before)
      #expect(loaded.trainableParameters.map(\.key) == ["prompt_embeddings"])

      // The training state brings the network back.
      for (mine, theirs) in zip(model.trainingState, loaded.trainingState) {
        #expect(mine.name == theirs.name)
        try theirs.load?(mine.value())
      }
      #expect(loaded.trainableParameters.map(\.key) == model.trainableParameters.map(\.key))
      #expect(try adapter.logits(loaded.base) == before)

      // An adapter that training goes on with as it was loaded has no network to keep.
      try loaded.loadWeights("default", from: folder)
      #expect(try adapter.logits(loaded.base) == before)
      try loaded.prepareTraining(totalSteps: 1)
      #expect(loaded.trainingState.isEmpty)
    }
  }

  @Test("LSTM layers drop features in training only")
  func dropout() throws {
    let configuration = PromptEncoderConfig(
      numVirtualTokens: 4, encoderReparameterizationType: .lstm, encoderDropout: 0.5)
    let model = try PEFTModel(base("llama-grouped-query"), configuration)
    let input = try ModelInput([[5, 6, 7]], device: testDevice)
    func logits() throws -> [Float] { try withoutGradient { try model.base.logits(input).floats() } }
    #expect(try logits() == logits())
    model.isTraining = true
    #expect(try logits() != logits())
    model.isTraining = false
    #expect(try logits() == logits())
  }

  // MARK: Several adapters

  @Test("adapters of different methods switch; two with virtual tokens cannot be active together")
  func switching() throws {
    let adapters = try onLlama.map { try AdapterFixture($0) }
    let model = try adapters[0].load()
    for (name, adapter) in zip(onLlama.dropFirst(), adapters.dropFirst()) {
      try model.loadAdapter(adapter.path, name: name)
    }
    try model.addAdapter("lora", LoRAConfig(targetModules: ["q_proj"], initLoRAWeights: .random))
    for _ in 0..<2 {
      for (name, adapter) in zip(["default"] + onLlama.dropFirst(), adapters) {
        try model.setAdapter(name)
        #expect(try adapter.error(model.base, "logits") < tolerance, "\(name)")
      }
    }
    #expect(model.activeAdapters == ["prefix-tuning"])
    expectError("one of them") { try model.setAdapters(["default", "prefix-tuning"]) }
    #expect(model.activeAdapters == ["prefix-tuning"])
    #expect(try adapters[2].error(model.base, "logits") < tolerance)

    // Together with a method that changes layers, both act.
    let alone = try adapters[2].logits(model.base)
    try model.setAdapters(["lora", "prefix-tuning"])
    let both = try adapters[2].logits(model.base)
    #expect(both != alone)
    try model.setAdapter("lora")
    #expect(try adapters[2].logits(model.base) != both)
    try model.setAdapters([])
    #expect(model.base.virtualTokens == nil)
    #expect(try adapters[2].error(model.base, "base_logits") < tolerance)
  }

  @Test(
    "the gradients of a bf16 base's virtual tokens are in fp32 and near the fp32 base's",
    arguments: ["prompt-tuning", "prefix-tuning"])
  func bfloat16(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    func gradient(_ model: PEFTModel) throws -> Tensor {
      try loss(model.base, adapter.sequences).backward()
      let parameter = model.trainableParameters[0].parameter
      #expect(parameter.value.dtype == .float32)
      return try #require(parameter.value.gradient)
    }
    let wanted = try gradient(adapter.load())
    let folder = fixture("").deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("ModelsTests/Fixtures/\(adapter.baseName)")
    let half = try PEFTModel(
      AutoModelForCausalLM.fromPretrained(folder.path, dtype: .bfloat16, device: testDevice))
    try half.loadAdapter(adapter.path)
    let found = try gradient(half)
    // 8 bits of mantissa through two layers and back.
    #expect(try (found - wanted).norm().item() < 0.1 * wanted.norm().item())
  }

  @Test("models with virtual tokens print as in PEFT")
  func trees() throws {
    let trees = try readJSON(fixture("prompt-trees.json"))
    let configurations: [(String, any AdapterConfiguration)] = [
      ("prompt", PromptTuningConfig(numVirtualTokens: 3)), ("mlp", PromptEncoderConfig(numVirtualTokens: 3)),
      (
        "lstm",
        PromptEncoderConfig(numVirtualTokens: 3, encoderReparameterizationType: .lstm, encoderDropout: 0.1)
      ),
      ("prefix", PrefixTuningConfig(numVirtualTokens: 3)),
      ("projection", PrefixTuningConfig(numVirtualTokens: 3, prefixProjection: true)),
    ]
    for (name, configuration) in configurations {
      let model = try PEFTModel(base("llama-grouped-query"), configuration)
      #expect(model.description == trees[name]?.stringValue, "\(name)")
    }
    // What a file gave has no network behind it.
    let loaded = try AdapterFixture("prefix-tuning-projection").load()
    #expect(
      loaded.description.contains("(default): PrefixEncoder(\n      (embedding): Embedding(4, 64)\n    )"))
  }

  // MARK: Errors

  @Test("settings that cannot be meant are errors that name the option")
  func settings() throws {
    let cases: [(String, [String: JSONValue], String)] = [
      ("PROMPT_TUNING", [:], "num_virtual_tokens"),
      ("PROMPT_TUNING", ["num_virtual_tokens": 0], "num_virtual_tokens"),
      ("PREFIX_TUNING", ["num_virtual_tokens": "20"], "num_virtual_tokens"),
      ("PROMPT_TUNING", ["num_virtual_tokens": 5, "prompt_tuning_init": "WORDS"], "prompt_tuning_init"),
      ("PROMPT_TUNING", ["num_virtual_tokens": 5, "prompt_tuning_init": "TEXT"], "prompt_tuning_init_text"),
      (
        "PROMPT_TUNING", ["num_virtual_tokens": 5, "prompt_tuning_init_text": "a"], "prompt_tuning_init_text"
      ),
      (
        "PROMPT_TUNING", ["num_virtual_tokens": 5, "num_transformer_submodules": 2],
        "num_transformer_submodules"
      ),
      (
        "P_TUNING", ["num_virtual_tokens": 5, "encoder_reparameterization_type": "CNN"],
        "encoder_reparameterization_type"
      ),
      ("P_TUNING", ["num_virtual_tokens": 5, "encoder_num_layers": 3], "encoder_num_layers"),
      ("P_TUNING", ["num_virtual_tokens": 5, "encoder_dropout": 0.1], "encoder_dropout"),
      (
        "P_TUNING",
        ["num_virtual_tokens": 5, "encoder_dropout": 1, "encoder_reparameterization_type": "LSTM"],
        "encoder_dropout"
      ),
      ("P_TUNING", ["num_virtual_tokens": 5, "encoder_hidden_size": 0], "encoder_hidden_size"),
      ("PREFIX_TUNING", ["num_virtual_tokens": 5, "encoder_hidden_size": 8], "encoder_hidden_size"),
      ("PREFIX_TUNING", ["num_virtual_tokens": 5, "init_weights": "one"], "init_weights"),
      ("PREFIX_TUNING", ["num_virtual_tokens": 5, "prefix_projection": 1], "prefix_projection"),
      ("BOTTLENECK", ["mh_adapter": false, "output_adapter": false], "output_adapter"),
      ("BOTTLENECK", ["reduction_factor": 0], "reduction_factor"),
      ("BOTTLENECK", ["non_linearity": "sine"], "non_linearity"),
      ("BOTTLENECK", ["is_parallel": true, "original_ln_before": true], "original_ln_before"),
      ("BOTTLENECK", ["scaling": 0], "scaling"),
      ("BOTTLENECK", ["dropout": 1], "dropout"),
    ]
    for (method, fields, option) in cases {
      let fields = AdapterFields(
        .init(uniqueKeysWithValues: fields.sorted { $0.key < $1.key }), source: "a test")
      expectError("`\(option)`") { _ = try AdapterMethod.named(method, in: "a test").configuration(fields) }
    }
  }

  @Test("what does not fit the model is an error before anything is trained")
  func otherModels() throws {
    expectError("`num_virtual_tokens` is 64", "64 tokens") {
      _ = try PEFTModel(base("llama-grouped-query"), PromptTuningConfig(numVirtualTokens: 64))
    }
    let other = try PEFTModel(base("llama-multi-head-tied"))
    expectError("`token_dim`", "16", "32", "another base") {
      try other.loadAdapter(fixture("prefix-tuning").path)
    }
    #expect(other.adapterNames.isEmpty)
    let deeper = try PEFTModel(base("qwen2-sliding"))
    expectError("`num_layers`", "another base") { try deeper.loadAdapter(fixture("prompt-tuning").path) }

    expectError("`reduction_factor`", "32") {
      _ = try PEFTModel(base("llama-grouped-query"), BottleneckConfig(reductionFactor: 33))
    }
    expectError("`layers_to_transform`", "layer 2", "0 to 1") {
      _ = try PEFTModel(base("llama-grouped-query"), BottleneckConfig(layersToTransform: [2]))
    }
  }
}

/// The fixtures that say how PEFT's model goes on.
private let generatingFixtures = adapterFixtures.filter { name in
  (try? AdapterFixture(name).expected.contains("generated.0")) ?? false
}
