import Adapters
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch
import Training

@Suite("Memory plan")
struct MemoryPlanTests {
  private let folder: TemporaryFolder

  init() throws { folder = try TemporaryFolder() }

  /// A folder with a `config.json` and nothing else.
  private func model(_ name: String, _ config: [String: JSONValue]) throws -> String {
    var json: JSONValue = .object(
      .init(uniqueKeysWithValues: config.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }))
    json["rms_norm_eps"] = 1e-6
    let url = folder.url.appending(path: name)
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    try Data(json.serialized().utf8).write(to: url.appending(path: "config.json"))
    return url.path(percentEncoded: false)
  }

  private func llama(hidden: Int, layers: Int, heads: Int, intermediate: Int, vocabulary: Int) throws
    -> String
  {
    try model(
      "llama-\(hidden)",
      [
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": .integer(hidden),
        "num_hidden_layers": .integer(layers), "num_attention_heads": .integer(heads),
        "intermediate_size": .integer(intermediate), "vocab_size": .integer(vocabulary), "hidden_act": "silu",
        "max_position_embeddings": 2048, "tie_word_embeddings": false, "dtype": "bfloat16",
      ])
  }

  private func configuration(_ model: String, _ lines: String) throws -> RunConfiguration {
    let file = folder.url.appending(path: "run.yaml")
    try Data("model_name_or_path: \(model)\ntrain_file: rows.jsonl\n\(lines)\n".utf8).write(to: file)
    return try RunConfiguration(contentsOf: file.path(percentEncoded: false))
  }

  @Test("QLoRA's 65B trains on a card of 48 GB, which LoRA on 16 bits does not")
  func qlora() async throws {
    // LLaMA-65B as in the paper's section 5 (Dettmers et al. 2023): all linear layers, r 64, one row of 512 tokens.
    let path = try llama(hidden: 8192, layers: 80, heads: 64, intermediate: 22016, vocabulary: 32000)
    let settings = """
      r: 64
      target_modules: all-linear
      max_length: 512
      per_device_train_batch_size: 1
      gradient_accumulation_steps: 16
      gradient_checkpointing: true
      optim: paged_adamw_8bit
      """
    let run = try configuration(path, settings)
    let card = 48_000_000_000
    let packed = try await RunPlan(run, weights: "nf4-double", capacity: card)
    #expect(packed.plan.allParameters - packed.plan.trainableParameters == 65_285_660_672)
    #expect(packed.plan.trainableParameters == 799_539_200)
    // 64.76 G weights of linear layers at 4.127 bits, 0.52 G of the embeddings at 16.
    #expect(abs(Double(packed.plan.weights) - 34.46e9) < 0.01e9)
    #expect(packed.fits == true)
    #expect(!packed.isMeasuredBatch)
    let dense = try await RunPlan(run, capacity: card)
    #expect(dense.plan.weights == 2 * 65_285_660_672)
    #expect(dense.fits == false)
    // Without double quantization, 0.37 bits a weight more: 3 GB, as the paper says.
    let single = try await RunPlan(run, weights: "nf4", capacity: card)
    #expect(abs(Double(single.plan.weights - packed.plan.weights) - 3.02e9) < 0.01e9)
  }

  @Test("adapter, gradients and optimizer are counted to the byte")
  func exactParts() async throws {
    let path = try llama(hidden: 64, layers: 2, heads: 4, intermediate: 160, vocabulary: 100)
    func plan(_ optim: String) async throws -> MemoryPlan {
      try await RunPlan(
        configuration(path, "r: 64\nlora_alpha: 4\ntarget_modules: [q_proj]\ndevice: cpu\noptim: \(optim)"),
        capacity: 1 << 40
      ).plan
    }
    let parameters = 2 * (64 * 64 + 64 * 64)
    let plain = try await plan("adamw_torch")
    #expect(plain.trainableParameters == parameters)
    #expect(plain.adapter == 4 * parameters && plain.gradients == 4 * parameters)
    #expect(plain.optimizer == 8 * parameters)
    #expect(try await plan("sgd").optimizer == 0)
    #expect(try await plan("lion_32bit").optimizer == 4 * parameters)
    // Each matrix has 4,096 elements: two codes, and two scales for each of 16 blocks.
    #expect(try await plan("paged_adamw_8bit").optimizer == 2 * parameters + 4 * 2 * 16 * 4)
    #expect(try await plan("paged_adamw_8bit").isPaged)
    #expect(try await plan("adafactor").optimizer == 4 * 2 * 64 * 4)
  }

  @Test("what takes less is offered with what it comes to, and less indeed")
  func changes() async throws {
    let path = try llama(hidden: 2048, layers: 24, heads: 16, intermediate: 5504, vocabulary: 32000)
    let settings = "target_modules: all-linear\nr: 16\nmax_tokens_per_pass: 0\n"
    let run = try configuration(path, settings + "max_length: 1024")
    let result = try await RunPlan(run, capacity: 8_000_000_000)
    #expect(result.fits == false)
    #expect(result.plan.batch.tokens == 8 * 1024)
    #expect(result.changes.map(\.settings).contains("gradient_checkpointing: true"))
    #expect(result.changes.allSatisfy { $0.total < result.plan.total })
    let half = try await RunPlan(
      configuration(path, settings + "max_length: 512"), capacity: 8_000_000_000)
    // What the process itself takes is not the same in two plans.
    func own(_ plan: MemoryPlan) -> Int { plan.total - plan.program }
    #expect(
      result.changes.contains {
        $0.settings == "max_length: 512" && $0.total - result.plan.program == own(half.plan)
      })

    // By itself a batch goes in passes, so that its size hardly matters.
    let passes = try await RunPlan(
      configuration(path, "target_modules: all-linear\nmax_length: 256\ndevice: cpu"), capacity: 1 << 40)
    #expect(passes.plan.batch.tokens == 768)
    let rows = try await RunPlan(
      configuration(path, "target_modules: all-linear\nmax_length: 256\ndevice: cpu\nmax_tokens_per_pass: 1"),
      capacity: 1 << 40)
    #expect(rows.plan.batch.tokens == 256)
    #expect(
      passes.changes.contains {
        $0.settings == "max_tokens_per_pass: 1" && $0.total - passes.plan.program == own(rows.plan)
      })
  }

  @Test("phi-2's 2.78 billion weights take 5.2 GiB in 16 bits, the 5 GB that are said of it")
  func phi2() throws {
    // Of its config.json: 32 blocks of width 2,560 with biases everywhere, a norm a block, an untied head.
    let (hidden, intermediate, vocabulary) = (2560, 10_240, 51_200)
    let layers =
      Array(repeating: [hidden, hidden], count: 4) + [[intermediate, hidden], [hidden, intermediate]]
    let vectors = Array(repeating: [hidden], count: 4) + [[intermediate], [hidden], [hidden], [hidden]]
    let tables = [[vocabulary, hidden], [vocabulary, hidden]]
    let ends = [[vocabulary], [hidden], [hidden]]
    func bytes(_ format: WeightFormat) -> Int {
      func sum(_ shapes: [[Int]], _ role: WeightFormat.Role) -> Int {
        shapes.reduce(0) { $0 + format.bytes(of: $1, role: role) }
      }
      return 32 * (sum(layers, .layer) + sum(vectors, .vector)) + sum(tables, .table) + sum(ends, .vector)
    }
    #expect(bytes(.dense(.float16)) == 2 * 2_779_683_840)
    #expect(abs(Double(bytes(.dense(.float16))) / 0x1p30 - 5.18) < 0.01)
    // In NF4 the blocks shrink to 1.4 GB, and the embeddings stay.
    let packed = try #require(WeightFormat.packed("nf4", computeType: .bfloat16))
    #expect(abs(Double(bytes(packed)) - 1.94e9) < 0.02e9)
  }

  @Test("the plan holds the weights as the configuration asks for, or as the checkpoint has them")
  func quantizedWeights() async throws {
    func plan(_ model: String, _ lines: String) async throws -> RunPlan {
      try await RunPlan(configuration(model, "max_length: 64\n" + lines), capacity: 1 << 40)
    }
    let path = try llama(hidden: 256, layers: 4, heads: 4, intermediate: 688, vocabulary: 100)
    let elements = 4 * (4 * 256 * 256 + 3 * 256 * 688)
    let dense = try await plan(path, "")
    #expect(dense.format.name == "bfloat16")
    for (lines, name, bits) in [
      ("load_in_4bit: true", "nf4", 4.5), ("load_in_8bit: true", "int8", 8),
      ("load_in_4bit: true\nbnb_4bit_use_double_quant: true", "nf4-double", 4.126953125),
    ] {
      let found = try await plan(path, lines)
      #expect(found.format.name == name)
      let saved = Double(dense.plan.weights - found.plan.weights)
      #expect(abs(saved - Double(elements) * (16 - bits) / 8) < 100, "\(name)")
    }
    for (checkpoint, name) in [("nf4", "nf4"), ("nf4-double", "nf4-double"), ("int8", "int8")] {
      let config = try String(
        contentsOfFile: tinyBase("quantized/\(checkpoint)") + "/config.json", encoding: .utf8)
      let place = folder.url.appending(path: checkpoint)
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: true)
      try config.write(to: place.appending(path: "config.json"), atomically: true, encoding: .utf8)
      #expect(try await plan(place.path(percentEncoded: false), "").format.name == name)
    }
    let missing = try configuration(path, "gguf_packed: true")
    let error = await #expect(throws: TrainingError.self) { _ = try await RunPlan(missing) }
    #expect(error?.message.contains("gguf_packed") == true)
  }

  @Test("the blocks of a GGUF file are counted as they lie there")
  func packedBlocks() throws {
    let source = try PretrainedSource(tinyBase("gguf/llama-grouped-query-q8_0.gguf"))
    func weights(_ format: WeightFormat) throws -> Int {
      try MemoryPlan(
        PEFTModel(AutoModelForCausalLM.structure(source), LoRAConfig(targetModules: ["q_proj"])),
        arguments: TrainingArguments(), format: format, batch: .init(tokens: 64, supervised: 64)
      ).weights
    }
    let packed = try #require(try WeightFormat.packed(source, computeType: .bfloat16))
    // Of 32 elements 34 bytes instead of 64, in layers and tables; rows of 40 are no whole blocks.
    let loaded = try AutoModelForCausalLM.fromPretrained(
      source, dtype: .bfloat16, quantization: .packed)
    var elements = 0
    for (_, module) in loaded.namedModules() {
      var matrix = (module as? Embedding)?.quantizedTable
      if let layer = module as? NeuralNetworks.Linear,
        !loaded.tiesEmbeddings || layer !== loaded.outputEmbedding
      {
        matrix = layer.weight.quantized
      }
      elements += matrix.map { $0.rows * $0.columns } ?? 0
    }
    #expect(elements > 0)
    #expect(abs(try weights(.dense(.bfloat16)) - weights(packed) - elements * 30 / 32) < 100)
    #expect(
      try WeightFormat.packed(PretrainedSource(tinyBase("llama-grouped-query")), computeType: .bfloat16)
        == nil)
  }

  @Test("an input embedding that stays in its file does not count, unless it is tied, trained or converted")
  func mappedTable() throws {
    func mapped(_ name: String, _ method: any AdapterConfiguration, _ dtype: DType, packed: Bool = false)
      throws
      -> Int
    {
      let source = try PretrainedSource(tinyBase(name))
      let model = try PEFTModel(AutoModelForCausalLM.structure(source), method)
      return try source.mappedBytes(of: model, dtype: dtype, packed: packed)
    }
    let (lora, full) = (LoRAConfig(targetModules: ["q_proj"]), FullFineTuningConfig())
    let source = try PretrainedSource(tinyBase("llama-grouped-query"))
    let elements =
      try source.configuration.integer("vocab_size") * source.configuration.integer("hidden_size")
    #expect(try mapped("llama-grouped-query", lora, .float32) == 4 * elements)
    #expect(try mapped("llama-grouped-query", lora, .bfloat16) == 0)
    #expect(try mapped("llama-grouped-query", full, .float32) == 0)
    #expect(try mapped("llama-multi-head-tied", lora, .float32) == 0)
    let gguf = "gguf/llama-grouped-query-q8_0.gguf"
    #expect(try mapped(gguf, lora, .bfloat16) == 0)
    #expect(try mapped(gguf, lora, .bfloat16, packed: true) == elements / 32 * 34)

    func weights(_ mapped: Int) throws -> Int {
      try MemoryPlan(
        PEFTModel(AutoModelForCausalLM.structure(source), lora), arguments: TrainingArguments(),
        format: .dense(.float32), batch: .init(tokens: 64, supervised: 64), mapped: mapped
      ).weights
    }
    #expect(try weights(0) - weights(4 * elements) == 4 * elements)
  }

  @Test(
    "gradients of a single pass take the place of activations; weights trained in fp32 are computed with as copies"
  )
  func fullFineTuning() async throws {
    let path = try llama(hidden: 256, layers: 4, heads: 4, intermediate: 688, vocabulary: 100)
    func plan(_ lines: String = "") async throws -> MemoryPlan {
      let settings =
        "peft_method: full\nbf16: true\nmax_length: 64\nper_device_train_batch_size: 1\ndevice: cpu\n"
      return try await RunPlan(configuration(path, settings + lines), capacity: 1 << 40).plan
    }
    let single = try await plan()
    #expect(single.gradients == single.adapter - single.activations - single.workspace)
    let summed = try await plan("gradient_accumulation_steps: 2")
    #expect(summed.gradients == summed.adapter && summed.activations == single.activations)
    // Queries, keys, values, outputs, gate, up, down and the head, 2 bytes each.
    let matrices = 4 * (4 * 256 * 256 + 3 * 256 * 688) + 100 * 256
    let rounded = try await plan("stochastic_rounding: true")
    #expect(single.activations - rounded.activations == 2 * matrices)
    // Of a frozen layer the input is not kept.
    let lora = try await RunPlan(
      configuration(
        path,
        "target_modules: [q_proj]\nr: 1\nbf16: true\nmax_length: 64\nper_device_train_batch_size: 1\ndevice: cpu"
      ),
      capacity: 1 << 40
    ).plan
    let inputs = 64 * 2 * 4 * (256 + 688)  // of gate and up, and of down
    #expect(rounded.activations - lora.activations >= inputs)
    #expect(rounded.workspace >= 4 * 100 * 256)
  }

  @Test("stochastic rounding takes 4 bytes a parameter less than master copies, weight and gradient together")
  func stochasticRounding() async throws {
    let path = try llama(hidden: 256, layers: 4, heads: 4, intermediate: 688, vocabulary: 100)
    func plan(_ lines: String) async throws -> MemoryPlan {
      try await RunPlan(
        configuration(path, "peft_method: full\nbf16: true\ndevice: cpu\n" + lines), capacity: 1 << 40
      )
      .plan
    }
    let (masters, rounded) = (try await plan(""), try await plan("stochastic_rounding: true"))
    #expect(masters.trainableParameters == rounded.trainableParameters && masters.weights == rounded.weights)
    #expect(masters.adapter == 4 * masters.trainableParameters && masters.gradients == masters.adapter)
    #expect(rounded.adapter == 2 * masters.trainableParameters && rounded.gradients == rounded.adapter)
    #expect(rounded.optimizer == masters.optimizer)
  }

  @Test("the plan knows layers that are run again, inputs that wait elsewhere and states that do")
  func offloading() async throws {
    let path = try llama(hidden: 256, layers: 8, heads: 4, intermediate: 688, vocabulary: 100)
    func plan(_ lines: String) async throws -> MemoryPlan {
      try await RunPlan(
        configuration(path, "target_modules: all-linear\nbf16: true\nmax_length: 256\ndevice: cpu\n" + lines),
        capacity: 1 << 40
      ).plan
    }
    let plain = try await plan("")
    let whole = try await plan("gradient_checkpointing: true")
    let half = try await plan("gradient_checkpointing: true\ngradient_checkpointing_layers: 4")
    let offloaded = try await plan("gradient_checkpointing: true\nactivation_offloading: true")
    // The last layer has its norm's input, so that all eight are alike; one of those that are run again is counted whole.
    #expect(whole.activations < half.activations && half.activations < plain.activations)
    // 8 inputs of 256 bf16 numbers a token, less the one of the layer that is being run.
    #expect(whole.activations - offloaded.activations == 7 * 256 * 2 * whole.batch.tokens)
    let disk = try await plan("offload_optimizer: disk")
    #expect(disk.isPaged && disk.optimizer == plain.optimizer && !plain.isPaged)
  }

  @Test("a pass has as many tokens as keep half of the weights' bytes or 0.4 GB, from 512 to 1,024")
  func passes() async throws {
    func tokens(layers: Int, vocabulary: Int = 100, _ lines: String = "") async throws -> Int {
      let path = try llama(
        hidden: 1024, layers: layers, heads: 16, intermediate: 2816, vocabulary: vocabulary)
      return try await RunPlan(
        configuration(path, "max_length: 32\nper_device_train_batch_size: 64\ndevice: cpu\n" + lines),
        capacity: 1 << 40
      )
      .plan.batch.tokens
    }
    #expect(try await tokens(layers: 1) == 1024)
    #expect((513..<1024).contains(try await tokens(layers: 20)))
    #expect(try await tokens(layers: 60) == 512)
    // Two tables of 2 x 1024 bytes a token, 410 MB.
    let larger = try await tokens(layers: 20, vocabulary: 100_000)
    #expect(larger > (try await tokens(layers: 20)))
    #expect(try await tokens(layers: 20, vocabulary: 100_000, "load_in_4bit: true") < larger)
  }

  @Test("layers before the first that is trained keep nothing")
  func untrainedLayers() async throws {
    let path = try llama(hidden: 256, layers: 8, heads: 4, intermediate: 688, vocabulary: 100)
    func activations(_ layers: String) async throws -> Int {
      try await RunPlan(
        configuration(path, "target_modules: [down_proj]\nlayers_to_transform: \(layers)\nmax_length: 256"),
        capacity: 1 << 40
      ).plan.activations
    }
    let (first, last) = (try await activations("[0]"), try await activations("[7]"))
    #expect(last * 5 < first)
  }

  @Test("a format and a model that there are not are named")
  func errors() async throws {
    let path = try llama(hidden: 64, layers: 2, heads: 4, intermediate: 160, vocabulary: 100)
    let run = try configuration(path, "")
    let error = await #expect(throws: TrainingError.self) { _ = try await RunPlan(run, weights: "nf3") }
    #expect(error?.message.contains("nf4-double") == true)
    let missing = try configuration("nowhere", "")
    await #expect(throws: ModelError.self) { _ = try await RunPlan(missing) }
  }
}
