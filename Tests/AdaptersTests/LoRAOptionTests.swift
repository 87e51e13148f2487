import Adapters
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// What LoRA's options compute, beside what the shared suite checks of every adapter; see Fixtures/make_lora_fixtures.py.

@Suite struct LoRAOptionTests {
  private static func fixtures(with prefix: String) -> [String] {
    adapterFixtures.filter { name in
      (try? AdapterFixture(name).expected.tensorNames.contains { $0.hasPrefix(prefix) }) ?? false
    }
  }

  // MARK: Gradients

  @Test("gradients are PEFT's", arguments: fixtures(with: "gradient."))
  func gradients(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try adapter.load()
    try loss(model.base, adapter.sequences).backward()
    let wanted = adapter.expected.tensorNames.filter { $0.hasPrefix("gradient.") }.map { $0.dropFirst(9) }
    #expect(Set(wanted) == Set(model.trainableParameters.map { Substring($0.key) }))
    for (key, parameter) in model.trainableParameters {
      let gradient = try #require(parameter.value.gradient, "\(key)")
      // fp32 sums over a whole backward pass, relative to the largest element.
      #expect(try relativeError(gradient, adapter.expected.tensor("gradient.\(key)")) < 5e-5, "\(key)")
    }
  }

  // MARK: Starts

  @Test("what a start takes out of the base is what PEFT takes", arguments: fixtures(with: "start."))
  func starts(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try PEFTModel(base(adapter.baseName), PEFTModel.readConfiguration(fixture(name)))
    let values = Dictionary(
      uniqueKeysWithValues: model.trainableParameters.map { ($0.key, $0.parameter.value) })
    let configuration = try #require(model.configuration("default") as? LoRAConfig)
    for key in adapter.expected.tensorNames where key.hasPrefix("start.") {
      let path = String(key.dropFirst("start.".count))
      let (a, b) = (
        try #require(values["\(path).lora_A.weight"]), try #require(values["\(path).lora_B.weight"])
      )
      let rank = Double(a.size(0))
      let scale = configuration.loraAlpha / (configuration.useRSLoRA ? rank.squareRoot() : rank)
      // Signs of singular vectors are the library's choice; their product is not.
      let product = try withoutGradient { try b.matmul(a) * scale }
      let wanted = try adapter.expected.tensor(key).to(device: testDevice)
      guard adapter.expected.contains("base.\(path)") else {
        #expect(try relativeError(product, wanted) < 2e-5, "\(path)")
        continue
      }
      // Under LoftQ the layer has another weight, and the product is a part of what that lacks: as small as the rounding of int8.
      let layer = try #require(model.base.module(at: path) as? Linear)
      let weight = try adapter.expected.tensor("base.\(path)").to(device: testDevice)
      let largest = try weight.absolute().max().item()
      #expect(try relativeError(layer.weight.dense(), weight) < 1e-6, "\(path)")
      #expect(try (product - wanted).absolute().max().item() < 1e-5 * largest, "\(path)")
      try model.withAdaptersDisabled { () throws in
        #expect(layer.weight is DenseWeight)
        #expect(try relativeError(layer.weight.dense(), weight) > 1e-3, "\(path)")
      }
    }
  }

  @Test("LoftQ's start is nearer to the weights than quantizing alone, the nearer with turns, ranks and bits")
  func loftQ() throws {
    let plain = try base("qwen2-grouped-query")
    /// ‖W − Q − s B A‖ over all layers, and ‖W − Q‖.
    func distances(_ r: Int, _ loftQ: LoftQConfig = LoftQConfig()) throws -> (started: Double, alone: Double)
    {
      let model = try PEFTModel(
        base("qwen2-grouped-query"),
        LoRAConfig(
          r: r, loraAlpha: Double(r), targetModules: .allLinear, initLoRAWeights: .loftQ, loftQConfig: loftQ))
      let values = Dictionary(
        uniqueKeysWithValues: try model.trainableParameters.map {
          ($0.key, try $0.parameter.value.detached())
        })
      var squares = (started: 0.0, alone: 0.0)
      for path in try model.targets("default") {
        let layer = try #require(model.base.module(at: path) as? Linear)
        let weight = try #require(plain.module(at: path) as? Linear).weight
        let rest = try weight.dense() - layer.weight.dense()
        let (a, b) = (
          try #require(values["\(path).lora_A.weight"]), try #require(values["\(path).lora_B.weight"])
        )
        let product = try b.matmul(a)
        squares.started += try (rest - product).squared().sum().item()
        squares.alone += try rest.squared().sum().item()
      }
      return (squares.started.squareRoot(), squares.alone.squareRoot())
    }
    let one = try distances(8)
    #expect(one.started < 0.7 * one.alone)
    #expect(try distances(8, LoftQConfig(iterations: 5)).started < 0.95 * one.started)
    #expect(try distances(16).started < 0.6 * one.started)
    #expect(try distances(8, LoftQConfig(bits: .eight)).started < 0.1 * one.started)
  }

  @Test(
    "on a base in NF4, A and B are replaced by PEFT's for the same weights, and only where that is wanted")
  func loftQOnQuantizedBase() throws {
    let adapter = try AdapterFixture("loftq-llama")
    let source = try PretrainedSource(baseFolder(adapter.baseName).path)
    let quantized = try AutoModelForCausalLM.fromPretrained(
      source, dtype: .float32, device: testDevice,
      quantization: .bitsAndBytes(BitsAndBytesConfig(.fourBit(.nf4, doubleQuantization: false))))
    let attention: ModuleSelection = ["q_proj", "k_proj", "v_proj", "o_proj"]
    let model = try PEFTModel(quantized, LoRAConfig(r: 4, loraAlpha: 4, targetModules: attention))
    let before = try adapter.logits(quantized)
    try model.replaceLoRAWeightsLoftQ(original: source) { $0.hasSuffix("q_proj") }
    #expect(try adapter.logits(quantized) != before)
    let values = Dictionary(
      uniqueKeysWithValues: model.trainableParameters.map { ($0.key, $0.parameter.value) })
    for key in adapter.expected.tensorNames where key.hasPrefix("start.") {
      let path = String(key.dropFirst("start.".count))
      let (a, b) = (
        try #require(values["\(path).lora_A.weight"]), try #require(values["\(path).lora_B.weight"])
      )
      guard path.hasSuffix("q_proj") else {
        #expect(try b.absolute().max().item() == 0)
        continue
      }
      #expect(
        try withoutGradient { try relativeError(b.matmul(a), adapter.expected.tensor(key)) } < 1e-5, "\(path)"
      )
    }
    // The base is what it was, and the adapter a plain one.
    try model.withAdaptersDisabled { () throws in #expect(try adapter.logits(quantized) == before) }
    expectError("not quantized") {
      try PEFTModel(base(adapter.baseName), LoRAConfig()).replaceLoRAWeightsLoftQ(original: source)
    }
    expectError("`default`", "`use_dora`") {
      try PEFTModel(base(adapter.baseName), LoRAConfig(useDoRA: true)).replaceLoRAWeightsLoftQ(
        original: source)
    }
  }

  @Test("LoftQ says what it cannot start from")
  func loftQErrors() throws {
    func make(_ configuration: LoRAConfig, _ model: any CausalLanguageModel) throws {
      _ = try PEFTModel(model, configuration)
    }
    let configuration = LoRAConfig(r: 4, targetModules: ["q_proj"], initLoRAWeights: .loftQ)
    let quantized = try base("llama-grouped-query")
    let layer = try #require(quantized.module(at: "model.layers.0.self_attn.q_proj") as? Linear)
    layer.weight = try FourBitWeight(quantizing: layer.weight.dense(), encoding: .nf4)
    expectError("model.layers.0.self_attn.q_proj", "quantized already", "load_in_4bit") {
      try make(configuration, quantized)
    }
    var never = configuration
    never.loftQConfig = LoftQConfig(iterations: 0)
    expectError("`loftq_iter`", "1 or more") { try make(never, base("llama-grouped-query")) }
    var embedding = configuration
    embedding.targets = TargetModules(targetModules: ["embed_tokens"])
    expectError("model.embed_tokens", "linear layers") { try make(embedding, base("llama-grouped-query")) }
    for (options, parts) in [
      (#"{"loftq_bits": 2}"#, ["`loftq_bits`", "is 2", "4 (NF4)"]), (#"{"loftq_iter": 0}"#, ["`loftq_iter`"]),
      (#"{"loftq_turns": 3}"#, ["`loftq_turns`"]), ("4", ["`loftq_config`", "mapping"]),
    ] {
      let text = #"{"peft_type": "LORA", "init_lora_weights": "loftq", "loftq_config": \#(options)}"#
      let fields = try JSONValue(parsing: Data(text.utf8)).objectValue
      for part in parts {
        expectError(part) {
          _ = try LoRAConfig.method.configuration(AdapterFields(#require(fields), source: "run.yaml"))
        }
      }
    }
  }

  @Test("a leading decomposition is torch.svd_lowrank's for the same seed", arguments: ["wide", "tall"])
  func leadingSingularValues(_ shape: String) throws {
    let file = try SafetensorsFile(fixture("decompositions.safetensors"))
    let (u, s, vt) = try file.tensor("\(shape).matrix").leadingSingularValues(
      rank: 6, iterations: 3, generator: SeededGenerator(seed: 9))
    #expect(try relativeError(s, file.tensor("\(shape).s")) < 1e-5)
    let wanted = try (file.tensor("\(shape).u") * file.tensor("\(shape).s"))
      .matmul(file.tensor("\(shape).v").transposed())
    #expect(try relativeError((u * s).matmul(vt), wanted) < 1e-4)
  }

  @Test("PiSSA's fast start is the same whenever it is made, and near the exact one")
  func fastPiSSA() throws {
    func start(_ initialization: LoRAInitialization) throws -> Tensor {
      try RandomState.seed(UInt64.random(in: 0..<1000))
      let model = try PEFTModel(
        base("llama-grouped-query"),
        LoRAConfig(
          r: 4, loraAlpha: 4, targetModules: ["layers.0.self_attn.q_proj"], initLoRAWeights: initialization))
      let values = model.trainableParameters.map(\.parameter.value)
      return try withoutGradient { try values[1].matmul(values[0]) }
    }
    let fast = try start(.pissa(iterations: 16))
    #expect(try fast.floats() == start(.pissa(iterations: 16)).floats())
    // The directions left out are hardly weaker than those taken, so that which they are takes long to tell; what they
    // explain of the weight does not.
    let weight = try #require(
      base("llama-grouped-query").module(at: "model.layers.0.self_attn.q_proj") as? Linear
    ).weight.dense()
    let (left, least) = (try (weight - fast).norm().item(), try (weight - start(.pissa)).norm().item())
    let whole = try weight.norm().item()
    #expect(left < 1.01 * least && least < 0.95 * whole)
  }

  @Test("the orthogonal start has A and B at work and their product zero")
  func orthogonal() throws {
    let model = try PEFTModel(
      base("llama-grouped-query"), LoRAConfig(r: 6, targetModules: ["q_proj"], initLoRAWeights: .orthogonal))
    let values = model.trainableParameters.map(\.parameter.value)
    for (a, b) in [(values[0], values[1]), (values[2], values[3])] {
      #expect(try a.absolute().max().item() > 0.05 && b.absolute().max().item() > 0.05)
      #expect(try withoutGradient { try b.matmul(a).absolute().max().item() } < 1e-6)
    }
  }

  @Test("starts that need more directions than the weight has, or an even rank, say so")
  func wrongRanks() throws {
    for start in [LoRAInitialization.pissa, .pissa(iterations: 4), .olora, .loftQ] {
      expectError("`r` is 17", "k_proj", "[16, 32]", "rank_pattern") {
        _ = try PEFTModel(
          base("llama-grouped-query"), LoRAConfig(r: 17, targetModules: ["k_proj"], initLoRAWeights: start))
      }
    }
    expectError("`r` is 5", "even") {
      _ = try PEFTModel(
        base("llama-grouped-query"), LoRAConfig(r: 5, targetModules: ["k_proj"], initLoRAWeights: .orthogonal)
      )
    }
    expectError("`lora_bias`", "`use_dora`") {
      _ = try PEFTModel(base("llama-biases"), LoRAConfig(useDoRA: true, loraBias: true))
    }
    expectError("`lora_bias`", "pissa") {
      _ = try PEFTModel(base("llama-biases"), LoRAConfig(initLoRAWeights: .pissa, loraBias: true))
    }
  }

  @Test("over a bf16 base, starts in the weight and magnitudes begin at the base")
  func bfloat16() throws {
    let folder = baseFolder("llama-grouped-query")
    let input = try ModelInput([[5, 6, 7, 8, 9, 10]], device: testDevice)
    func error(_ configuration: LoRAConfig) throws -> Double {
      let model = try PEFTModel(
        AutoModelForCausalLM.fromPretrained(folder.path, dtype: .bfloat16, device: testDevice))
      let before = try withoutGradient { try model.base.logits(input).to(.float32) }
      try model.addAdapter("default", configuration)
      try model.setAdapter("default")
      let after = try withoutGradient { try model.base.logits(input).to(.float32) }
      #expect(model.trainableParameters.allSatisfy { $0.parameter.value.dtype == .float32 })
      return try (after - before).norm().item() / before.norm().item()
    }
    for start in [LoRAInitialization.pissa, .olora, .orthogonal] {
      #expect(try error(LoRAConfig(targetModules: .allLinear, initLoRAWeights: start)) < 0.03)
    }
    #expect(try error(LoRAConfig(targetModules: .allLinear, useDoRA: true)) < 0.03)
  }

  @Test(
    "as a plain LoRA of twice the rank the adapter is PEFT's conversion, and computes the same",
    arguments: ["pissa-llama", "olora-qwen2", "loftq-llama"])
  func conversion(_ name: String) throws {
    let (adapter, converted) = (try AdapterFixture(name), try AdapterFixture("\(name)-converted"))
    let model = try adapter.load()
    try withTemporaryFolder { folder in
      try model.savePlainLoRA("default", to: folder)
      let plain = try PEFTModel(base(adapter.baseName))
      try plain.loadAdapter(folder.path)
      #expect(try converted.error(plain.base, "logits") < 1e-5)
      // LoftQ's base has the error of its quantization, which the untouched one has not.
      if name != "loftq-llama" { #expect(try adapter.error(plain.base, "logits") < 1e-5) }
      let (found, wanted) = (
        try readJSON(folder.appendingPathComponent("adapter_config.json")), try converted.configuration
      )
      for key in ["r", "lora_alpha", "init_lora_weights", "rank_pattern", "alpha_pattern"] {
        #expect(found[key] == wanted[key], "\(key)")
      }
      let (ours, theirs) = (
        try Checkpoint.open(folder), try Checkpoint.open(fixture("\(name)-converted"))
      )
      #expect(Set(ours.tensorNames) == Set(theirs.tensorNames))
      for key in ours.tensorNames where key.hasSuffix("lora_A.weight") {
        let other = key.replacing("lora_A", with: "lora_B")
        let product = try ours.tensor(other).matmul(ours.tensor(key))
        #expect(try relativeError(product, theirs.tensor(other).matmul(theirs.tensor(key))) < 1e-4, "\(key)")
      }
    }
  }

  @Test(
    "a conversion keeps scales and ranks of single modules, rank stabilisation, embeddings and magnitudes")
  func conversionOfPatterns() throws {
    for (useRSLoRA, useDoRA) in [(false, false), (true, false), (false, true)] {
      let model = try PEFTModel(
        base("qwen2-grouped-query"),
        LoRAConfig(
          r: 4, loraAlpha: 6, targetModules: ["q_proj", "o_proj", "embed_tokens"], useRSLoRA: useRSLoRA,
          useDoRA: useDoRA, initLoRAWeights: .pissa, rankPattern: ["o_proj": 2], alphaPattern: ["q_proj": 3]))
      for (_, parameter) in model.trainableParameters {
        try parameter.value.addInPlace(.normal(parameter.shape, device: testDevice), scale: 0.1)
      }
      let input = try ModelInput([[5, 6, 7, 8]], device: testDevice)
      let wanted = try withoutGradient { try model.base.logits(input) }
      try withTemporaryFolder { folder in
        try model.savePlainLoRA("default", to: folder)
        let plain = try PEFTModel(base("qwen2-grouped-query"))
        try plain.loadAdapter(folder.path)
        #expect(try withoutGradient { try relativeError(plain.base.logits(input), wanted) } < 1e-5)
      }
    }
    expectError("`default`", "untouched") {
      try PEFTModel(base("llama-grouped-query"), LoRAConfig()).savePlainLoRA(
        "default", to: URL(fileURLWithPath: "/nowhere"))
    }
  }

  // MARK: EVA

  /// The batches that the fixture's script gave PEFT.
  private func batches(_ adapter: AdapterFixture) throws -> [DataBatch] {
    try #require(adapter.facts["batches"]?.arrayValue).map { rows in
      func lists(_ key: String) -> [[Int32]] {
        rows.arrayValue?.map { $0[key]?.arrayValue?.compactMap { $0.intValue.map(Int32.init) } ?? [] } ?? []
      }
      let labels = lists("labels").flatMap { $0 }
      return DataBatch(
        input: try ModelInput(lists("input_ids"), device: testDevice),
        supervised: labels.indices.filter { labels[$0] != -100 })
    }
  }

  @Test("EVA finds PEFT's directions, ranks and scales", arguments: fixtures(with: "components."))
  func eva(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    var fresh = try #require(PEFTModel.readConfiguration(fixture(name)) as? LoRAConfig)
    let ranks = Dictionary(uniqueKeysWithValues: fresh.rankPattern.map { ($0.key, $0.value) })
    let alphas = Dictionary(uniqueKeysWithValues: fresh.alphaPattern.map { ($0.key, $0.value) })
    (fresh.rankPattern, fresh.alphaPattern) = ([:], [:])
    let model = try PEFTModel(base(adapter.baseName), fresh)
    #expect(model.adapterAwaitingData == "default")
    let batches = try batches(adapter)
    let before = try adapter.logits(model.base)
    try model.initializeFromData(batchCount: batches.count) { batches[$0] }
    #expect(model.adapterAwaitingData == nil)
    let found = try #require(model.configuration("default") as? LoRAConfig)
    #expect(Dictionary(uniqueKeysWithValues: found.rankPattern.map { ($0.key, $0.value) }) == ranks)
    #expect(Dictionary(uniqueKeysWithValues: found.alphaPattern.map { ($0.key, $0.value) }) == alphas)
    #expect(model.trainableParametersLine == adapter.facts["line"]?.stringValue)
    // B is zero: the model is the base.
    #expect(try adapter.logits(model.base) == before)
    let values = Dictionary(
      uniqueKeysWithValues: model.trainableParameters.map { ($0.key, $0.parameter.value) })
    for key in adapter.expected.tensorNames where key.hasPrefix("components.") {
      let a = try #require(values["\(key.dropFirst("components.".count)).lora_A.weight"])
      // Directions of nearly equal weight turn into each other by rounding.
      let error = try relativeError(a.detached(), adapter.expected.tensor(key))
      #expect(error < 5e-3, "\(key): \(error)")
    }
  }

  @Test("EVA says what its data or settings lack")
  func evaErrors() throws {
    let adapter = try AdapterFixture("eva-llama")
    let batches = try batches(adapter)
    func run(_ r: Int, _ eva: EVAConfig, _ batches: [DataBatch]) throws {
      let model = try PEFTModel(
        base(adapter.baseName),
        LoRAConfig(r: r, targetModules: ["q_proj"], initLoRAWeights: .eva, evaConfig: eva))
      try model.initializeFromData(batchCount: batches.count) { batches[$0] }
    }
    expectError("no batch") { try run(4, EVAConfig(), []) }
    expectError("33 directions", "32 features", "`rho`") { try run(33, EVAConfig(rho: 1), batches) }
    let few = [DataBatch(input: try ModelInput([[5, 6, 7]], device: testDevice), supervised: [1])]
    expectError("more tokens", "`rho`") { try run(4, EVAConfig(), few) }
    expectError("`eva_config`", "`eva`") {
      _ = try PEFTModel(base(adapter.baseName), LoRAConfig(evaConfig: EVAConfig()))
    }
  }

  // MARK: Layers

  @Test("replicated layers share their weights, have a cache each, and leave when the adapter does")
  func replication() throws {
    let adapter = try AdapterFixture("layer-replication-qwen2")
    let model = try adapter.load()
    #expect(model.base.layerCount == 4)
    let whole = try withoutGradient {
      try model.base.logits(ModelInput([adapter.sequences[1]], device: testDevice))
    }
    let cache = model.base.makeCache(sequenceCount: 1)
    var rows: [Tensor] = []
    for token in try adapter.sequences[1] {
      rows.append(
        try withoutGradient { try model.base.logits(ModelInput([[token]], cache: cache, device: testDevice)) }
      )
    }
    #expect(try relativeError(.concatenated(rows), whole) < 1e-5)
    try model.setAdapters([])
    #expect(model.base.layerCount == 2)
    #expect(try adapter.error(model.base, "base_logits") < 1e-5)
  }

  @Test("a merged replication is saved as a model with its layers, and loads")
  func savedReplication() throws {
    let adapter = try AdapterFixture("layer-replication-llama")
    let merged = try adapter.load().mergeAndUnload()
    try withTemporaryFolder { folder in
      try merged.savePretrained(to: folder)
      let again = try AutoModelForCausalLM.fromPretrained(folder.path, dtype: .float32, device: testDevice)
      #expect(again.layerCount == 3)
      #expect(try adapter.error(again, "logits") < 2e-5)
    }
  }

  @Test("layers that the model does not have, and ranges that are none, are refused")
  func wrongReplication() throws {
    expectError("[1, 3]", "0 to 1") {
      _ = try PEFTModel(base("llama-grouped-query"), LoRAConfig(layerReplication: [0..<2, 1..<3]))
    }
  }

  // MARK: DoRA

  @Test("DoRA's rows have the trained magnitudes, also after A and B change")
  func magnitudes() throws {
    let model = try PEFTModel(
      base("qwen2-grouped-query"),
      LoRAConfig(r: 4, targetModules: ["q_proj", "embed_tokens"], useDoRA: true, initLoRAWeights: .random))
    for round in 0..<3 {
      for (key, parameter) in model.trainableParameters {
        if key.hasSuffix("magnitude_vector") {
          try parameter.value.copyInPlace(.uniform(parameter.shape, low: 0.5, high: 2))
        } else {
          try parameter.value.copyInPlace(.normal(parameter.shape))
        }
      }
      // Looked at between the rounds, so that a norm that is kept too long shows.
      let input = try ModelInput([[5, 6, 7, 8]], device: testDevice)
      let before = try withoutGradient { try model.base.logits(input) }
      try model.mergeAdapter()
      #expect(
        try withoutGradient { try relativeError(model.base.logits(input), before) } < 2e-5, "round \(round)")
      let layer = try #require(model.base.module(at: "model.layers.1.self_attn.q_proj") as? Linear)
      let norms = try layer.weight.dense().squared().sum(1).squareRoot()
      let table = try model.base.inputEmbedding.weight.value.squared().sum(0).squareRoot()
      try model.unmergeAdapter()
      let magnitudes = Dictionary(
        uniqueKeysWithValues: model.trainableParameters.map { ($0.key, $0.parameter.value) })
      let rows = try #require(magnitudes["model.layers.1.self_attn.q_proj.lora_magnitude_vector"])
      #expect(try relativeError(norms, rows.detached()) < 1e-5)
      let columns = try #require(magnitudes["model.embed_tokens.lora_magnitude_vector"])
      #expect(try relativeError(table, columns.detached()) < 1e-5)
    }
  }

  @Test("DoRA drops features in training with the mean that it has without")
  func dropout() throws {
    for start in [LoRAInitialization.random, .pissa] {
      let model = try PEFTModel(
        base("qwen2-grouped-query"),
        LoRAConfig(
          r: 4, loraDropout: 0.2, targetModules: ["q_proj"], useDoRA: true, initLoRAWeights: start))
      for (key, parameter) in model.trainableParameters where !key.hasSuffix("lora_A.weight") {
        try parameter.value.copyInPlace(.uniform(parameter.shape, low: 0.5, high: 1))
      }
      let layer = try #require(model.base.module(at: "model.layers.0.self_attn.q_proj") as? Linear)
      let input = try Tensor.normal([1, 32], device: testDevice)
      let still = try withoutGradient { try layer(input) }
      model.isTraining = true
      let many = try withoutGradient { try layer(input.expanded([40_000, 32]).contiguous()) }
      let spread = try withoutGradient { try (many - still).absolute().max().item() }
      #expect(spread > 1e-2)
      #expect(try relativeError(many.mean(0, keepingDimension: true), still) < 0.03)
    }
  }

  @Test("DoRA joins other adapters of its layer in any order as PEFT's does: it scales what lies within")
  func doraBesideLoRA() throws {
    let model = try PEFTModel(base("qwen2-grouped-query"))
    let random = LoRAConfig(r: 2, targetModules: ["q_proj"], initLoRAWeights: .random)
    try model.addAdapter("plain", random)
    var dora = random
    dora.useDoRA = true
    try model.addAdapter("dora", dora)
    let layer = try #require(model.base.module(at: "model.layers.0.self_attn.q_proj") as? Linear)
    let input = try Tensor.normal([5, 32], device: testDevice)
    try model.setAdapter("dora")
    for (key, parameter) in model.trainableParameters where key.hasSuffix("magnitude_vector") {
      try parameter.value.scaleInPlace(1.5)
    }
    func output(_ names: [String]) throws -> Tensor {
      try model.setAdapters(names)
      return try withoutGradient { try layer(input) }
    }
    let (base, plain, scaled) = (try output([]), try output(["plain"]), try output(["dora"]))
    #expect(try relativeError(output(["dora", "plain"]), scaled + plain - base) < 1e-5)
    // At the start m is ‖V‖, and now 1.5 of it.
    #expect(try relativeError(output(["plain", "dora"]) - scaled, (plain - base) * 1.5) < 1e-4)
  }

  // MARK: Embeddings

  @Test("tied embeddings stay one parameter when a trained pair, table or token is merged")
  func tiedMerging() throws {
    for name in [
      "tied-targets", "tied-targets-qwen2", "tied-modules-to-save", "trainable-tokens-qwen2-tied",
    ] {
      let model = try AdapterFixture(name).load()
      try model.mergeAdapter()
      #expect(model.base.tiesEmbeddings, "\(name)")
      try model.unmergeAdapter()
      try model.setAdapters([])
      #expect(model.base.tiesEmbeddings, "\(name)")
    }
  }

  @Test("tokens that are not trained give the base's bits")
  func otherTokens() throws {
    let adapter = try AdapterFixture("trainable-tokens-qwen2-tied")
    let model = try PEFTModel(
      base(adapter.baseName),
      LoRAConfig(targetModules: ["q_proj"], trainableTokenIndices: .inputEmbedding([7])))
    let tokens = try Tensor([3, 7, 9] as [Int64]).to(device: testDevice)
    let before = try model.base.inputEmbedding.weight.value.embedding(tokens).floats()
    let rows = try #require(model.trainableParameters.first { $0.key.contains("trainable_tokens_delta") })
    try rows.parameter.value.copyInPlace(.ones([1, 32]))
    let after = try model.base.inputEmbedding(tokens).floats()
    #expect(Array(after[0..<32]) == Array(before[0..<32]))
    #expect(after[32..<64].allSatisfy { $0 == 1 })
    #expect(Array(after[64...]) == Array(before[64...]))
  }

  @Test("what embeddings cannot do together is refused by name")
  func embeddingErrors() throws {
    expectError("`trainable_token_indices`", "`model.embed_tokens`", "one of them") {
      _ = try PEFTModel(
        base("llama-grouped-query"),
        LoRAConfig(targetModules: ["embed_tokens"], trainableTokenIndices: .inputEmbedding([3])))
    }
    expectError("`trainable_token_indices`", "`lm_head`") {
      _ = try PEFTModel(
        base("llama-grouped-query"),
        LoRAConfig(
          targetModules: ["q_proj"], modulesToSave: ["lm_head"],
          trainableTokenIndices: .byLayer(["lm_head": [3]])))
    }
    expectError("`ensure_weight_tying`", "same tokens") {
      _ = try PEFTModel(
        base("qwen2-tied"),
        LoRAConfig(
          targetModules: ["q_proj"], trainableTokenIndices: .byLayer(["embed_tokens": [3], "lm_head": [4]]),
          ensureWeightTying: true))
    }
    expectError("`ensure_weight_tying`", "`use_dora`") {
      _ = try PEFTModel(
        base("qwen2-tied"),
        LoRAConfig(targetModules: ["embed_tokens"], useDoRA: true, ensureWeightTying: true))
    }
  }
}
