import Adapters
import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Testing
import Torch

// Settings that cannot be meant are refused before anything is trained, by name and with what would have been right.

@Suite struct MethodErrorTests {
  private func adapter(
    _ method: String, _ fields: OrderedDictionary<String, JSONValue>,
    on baseName: String = "llama-grouped-query"
  ) throws {
    let configuration = try AdapterMethod.named(method, in: "the test").configuration(
      AdapterFields(fields, source: "the test"))
    _ = try PEFTModel(base(baseName), configuration)
  }

  @Test(
    "a target that matches nothing is an error with names that exist",
    arguments: AdapterMethod.catalogue.filter { $0.options.contains { $0.name == "target_modules" } }.map(
      \.peftType))
  func noTarget(_ method: String) {
    let fields: OrderedDictionary<String, JSONValue> = method == "BITFIT" ? ["create_biases": true] : [:]
    expectError("`target_modules`", "q_prj", "model.layers.0.mlp.down_proj", "graft inspect") {
      try adapter(method, fields.merging(["target_modules": ["q_prj"]]) { $1 })
    }
  }

  @Test(
    "a module that the method cannot work on is named",
    arguments: ["LORA", "ADALORA", "VERA", "LOHA", "LOKR", "OFT", "BOFT", "IA3"])
  func wrongModule(_ method: String) {
    expectError("model.layers.0.input_layernorm", "LlamaRMSNorm", "linear layers") {
      var fields: OrderedDictionary<String, JSONValue> = ["target_modules": ["input_layernorm"]]
      if method == "IA3" { fields["feedforward_modules"] = [] }
      try adapter(method, fields)
    }
  }

  @Test(
    "an option that a method does not have is refused by name",
    arguments: AdapterMethod.catalogue.map(\.peftType))
  func unknownOption(_ method: String) {
    expectError("`some_new_option`", method) { try adapter(method, ["some_new_option": "yes"]) }
  }

  @Test("options with values that cannot be meant are refused by name")
  func values() {
    let cases: [(String, String, JSONValue)] = [
      ("ADALORA", "target_r", 20), ("ADALORA", "init_r", 0), ("ADALORA", "beta1", 1), ("ADALORA", "beta2", 0),
      ("ADALORA", "orth_reg_weight", -1), ("ADALORA", "lora_alpha", 0), ("ADALORA", "total_step", 0),
      ("ADALORA", "deltaT", 0), ("ADALORA", "tinit", -1), ("ADALORA", "rank_pattern", ["q_proj": 3]),
      ("ADALORA", "lora_dropout", 1), ("ADALORA", "bias", "some"), ("ADALORA", "use_dora", true),
      ("IA3", "init_ia3_weights", 1), ("IA3", "fan_in_fan_out", true), ("IA3", "target_modules", 5),
      ("LN_TUNING", "exclude_modules", 7), ("VERA", "r", 0), ("VERA", "bias", "lora_only"),
      ("VERA", "projection_prng_key", -1), ("VERA", "vera_dropout", 1.5), ("VERA", "d_initial", "x"),
      ("LOHA", "r", 0), ("LOHA", "rank_dropout", 1), ("LOHA", "module_dropout", -0.5),
      ("LOHA", "use_effective_conv2d", true), ("LOHA", "rank_pattern", ["q_proj": 0.5]),
      ("LOKR", "decompose_factor", 0), ("LOKR", "init_weights", "lycorice"), ("LOKR", "alpha", "8"),
      ("OFT", "r", 4), ("OFT", "oft_block_size", 0), ("OFT", "eps", 0),
      ("OFT", "num_cayley_neumann_terms", 0),
      ("BOFT", "boft_block_num", 4), ("BOFT", "boft_block_size", 0), ("BOFT", "boft_n_butterfly_factor", 0),
      ("BOFT", "boft_dropout", 1), ("BITFIT", "create_biases", "yes"), ("FULL", "num_trainable_layers", 0),
      ("FULL", "modules_to_save", ["lm_head"]), ("FULL", "trainable_parameters", 3),
    ]
    for (method, option, value) in cases {
      expectError("`\(option)`") { try adapter(method, [option: value]) }
    }
  }

  @Test("feed-forward modules must be targets")
  func feedForward() {
    expectError("`feedforward_modules`", "`down_proj`", "target_modules") {
      try adapter("IA3", ["target_modules": ["q_proj"], "feedforward_modules": ["down_proj"]])
    }
  }

  @Test("a schedule without steps in which ranks fall is an error")
  func schedule() throws {
    expectError("`total_step`", "`tinit` 6", "`tfinal` 4") {
      try adapter("ADALORA", ["total_step": 10, "tinit": 6, "tfinal": 4])
    }
    let model = try PEFTModel(base("llama-grouped-query"), AdaLoRAConfig(tinit: 6, tfinal: 4))
    expectError("10 steps", "`tinit` 6", "`tfinal` 4") { try model.prepareTraining(totalSteps: 10) }
    try model.prepareTraining(totalSteps: 11)
    #expect((model.configuration("default") as? AdaLoRAConfig)?.totalStep == 11)
  }

  @Test("a rank above that of the matrix is refused before training, with the layer and the most there is")
  func ranks() throws {
    for configuration: any AdapterConfiguration in [
      LoRAConfig(r: 33, targetModules: ["q_proj"]),
      LoRAConfig(r: 33, targetModules: ["q_proj"], useDoRA: true),
      AdaLoRAConfig(initR: 33, totalStep: 300, targetModules: ["q_proj"]),
    ] {
      let model = try PEFTModel(base("llama-grouped-query"), configuration)
      expectError("rank is 33", "model.layers.0.self_attn.q_proj", "Set r (or init_r) to 32") {
        try model.prepareTraining(totalSteps: 300)
      }
    }
    let most = try PEFTModel(base("llama-grouped-query"), LoRAConfig(r: 32, targetModules: ["q_proj"]))
    try most.prepareTraining(totalSteps: 300)
  }

  @Test("blocks that do not divide a layer are an error with those that do")
  func blocks() {
    expectError(
      "`boft_block_size` is 5", "32 inputs", "model.layers.0.self_attn.q_proj", "1, 2, 4, 8, 16, 32"
    ) {
      try adapter("BOFT", ["boft_block_size": 5])
    }
    expectError("`boft_n_butterfly_factor` 3", "2, 4, 8") {
      try adapter("BOFT", ["boft_block_size": 32, "boft_n_butterfly_factor": 3])
    }
  }

  @Test("biases that are not there are an error that says how to get some")
  func biases() {
    expectError("no biases", "`create_biases: true`") { try adapter("BITFIT", [:]) }
    expectError("model.layers.0.self_attn.q_proj", "`create_biases: true`") {
      try adapter("BITFIT", ["target_modules": ["down_proj"]], on: "qwen2-grouped-query")
    }
  }

  @Test("parameters that are not there, and more blocks than the model has")
  func full() {
    expectError("`trainable_parameters`", "`norm`", "model.embed_tokens.weight") {
      try adapter("FULL", ["trainable_parameters": ["norm"]])
    }
    expectError("`num_trainable_layers` is 3", "has 2 blocks") {
      try adapter("FULL", ["num_trainable_layers": 3])
    }
  }

  @Test("a base that is held in another form than a matrix cannot be trained in full")
  func packed() throws {
    let model = try base("llama-grouped-query")
    let layer = try #require(model.module(at: "model.layers.1.mlp.up_proj") as? Linear)
    layer.weight = PackedStandIn(try layer.weight.dense())
    expectError("model.layers.1.mlp.up_proj", "quantized", "float32", "peft_method: lora") {
      _ = try PEFTModel(model, FullFineTuningConfig())
    }
  }
}

/// A storage that has no parameter, as quantized ones have none.
private final class PackedStandIn: WeightStorage {
  private let matrix: Tensor

  init(_ matrix: Tensor) {
    self.matrix = matrix
  }

  var outFeatures: Int { matrix.size(0) }
  var inFeatures: Int { matrix.size(1) }
  var parameter: Parameter? { nil }
  func linear(_ input: Tensor, bias: Tensor?) throws -> Tensor { try input.linear(matrix, bias: bias) }
  func dense() throws -> Tensor { matrix }
  func replace(with matrix: Tensor) throws {}
}
