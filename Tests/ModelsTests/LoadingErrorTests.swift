import Formats
import Foundation
import JSON
import Models
import TestSupport
import Testing
import Torch

// Whatever is wrong with a model's files, loading throws an error that names it.

@Suite struct LoadingErrorTests {
  private func load(_ folder: URL) throws {
    _ = try AutoModelForCausalLM.fromPretrained(folder.path, dtype: .float32, device: testDevice)
  }

  private let llama = "llama-grouped-query"

  // MARK: Files

  @Test("a path without a model")
  func noModel() throws {
    expectError("no model at", "/nowhere/at/all") { try load(URL(fileURLWithPath: "/nowhere/at/all")) }
    try withTemporaryFolder { folder in
      expectError("config.json", folder.path) { try load(folder) }
    }
    try withCopy(of: llama) { folder in
      expectError("without a configuration") { try load(folder.appendingPathComponent("model.safetensors")) }
    }
  }

  @Test("a directory without configuration, without weights, with damaged configuration")
  func missingFiles() throws {
    try withCopy(of: llama) { folder in
      let configuration = folder.appendingPathComponent("config.json")
      let text = try String(contentsOf: configuration, encoding: .utf8)
      try FileManager.default.removeItem(at: configuration)
      expectError("config.json", "cannot be read") { try load(folder) }
      try Data("{\"model_type\": ".utf8).write(to: configuration)
      expectError("config.json", "not valid JSON") { try load(folder) }
      try Data("[1]".utf8).write(to: configuration)
      expectError("config.json", "not an object") { try load(folder) }
      try Data(text.utf8).write(to: configuration)
      try FileManager.default.removeItem(at: folder.appendingPathComponent("model.safetensors"))
      expectError("no weights") { try load(folder) }
    }
  }

  @Test("a shard or its index is missing")
  func shards() throws {
    try withCopy(of: "llama-sharded") { folder in
      try FileManager.default.removeItem(
        at: folder.appendingPathComponent("model-00002-of-00002.safetensors"))
      expectError("model-00002-of-00002.safetensors", "missing") { try load(folder) }
    }
    try withCopy(of: "llama-sharded") { folder in
      try FileManager.default.removeItem(at: folder.appendingPathComponent("model.safetensors.index.json"))
      expectError("no weights") { try load(folder) }
    }
  }

  @Test("weights cut short anywhere")
  func truncated() throws {
    try withCopy(of: llama) { folder in
      let file = folder.appendingPathComponent("model.safetensors")
      let bytes = try Data(contentsOf: file)
      for count in [0, 1, 7, 8, 100, bytes.count / 2, bytes.count - 1] {
        try bytes.prefix(count).write(to: file)
        expectError("model.safetensors") { try load(folder) }
      }
    }
  }

  // MARK: Tensors

  /// Writes the fixture's weights again after `change`.
  private func withWeights(
    of name: String, _ change: (inout [String: Tensor]) throws -> Void, _ body: (URL) throws -> Void
  ) throws {
    try withCopy(of: name) { folder in
      let url = folder.appendingPathComponent("model.safetensors")
      let file = try SafetensorsFile(url)
      var tensors: [String: Tensor] = [:]
      for name in file.tensorNames { tensors[name] = try file.tensor(name) }
      try change(&tensors)
      try Safetensors.write(tensors.map { TensorToWrite(name: $0, tensor: $1) }, to: url)
      try body(folder)
    }
  }

  @Test("a tensor is missing")
  func missingTensor() throws {
    try withWeights(of: llama) {
      $0["model.layers.1.mlp.up_proj.weight"] = nil
    } _: { folder in
      expectError("`model.layers.1.mlp.up_proj.weight`", "missing") { try load(folder) }
    }
    try withWeights(of: llama) {
      $0["lm_head.weight"] = nil
    } _: { folder in
      expectError("`lm_head.weight`", "tie_word_embeddings") { try load(folder) }
    }
  }

  @Test("a tensor has another shape")
  func wrongShape() throws {
    try withWeights(of: llama) {
      $0["model.norm.weight"] = try .ones([31])
    } _: { folder in
      expectError("`model.norm.weight`", "[31]", "[32]") { try load(folder) }
    }
  }

  @Test("tensors that the model does not have")
  func extraTensors() throws {
    try withWeights(of: llama) {
      $0["model.layers.0.self_attn.q_proj.bias"] = try .ones([32])
      $0["model.layers.2.mlp.up_proj.weight"] = try .ones([40, 32])
    } _: { folder in
      expectError("2 tensors", "`model.layers.0.self_attn.q_proj.bias`", "model_type") { try load(folder) }
    }
  }

  @Test("what old checkpoints store beside the weights is no obstacle")
  func harmlessTensors() throws {
    try withWeights(of: llama) {
      $0["model.layers.0.self_attn.rotary_emb.inv_freq"] = try .ones([4])
    } _: {
      try load($0)
    }
    // A tied output embedding is stored twice.
    try withWeights(of: "llama-multi-head-tied") {
      $0["lm_head.weight"] = try #require($0["model.embed_tokens.weight"]).copy()
    } _: {
      try load($0)
    }
  }

  @Test("weights of a type that is no number to compute with")
  func integerWeights() throws {
    try withWeights(of: llama) {
      $0["model.norm.weight"] = try Tensor([Int64](repeating: 1, count: 32))
    } _: { folder in
      expectError("`model.norm.weight`", "int64") { try load(folder) }
    }
  }

  // MARK: Configuration

  @Test("an unknown or missing model type")
  func modelType() throws {
    try withCopy(of: llama) { folder in
      try editConfiguration(folder, ["model_type": "marvin"])
      expectError("`marvin`", "llama, qwen2", "config.json") { try load(folder) }
      try editConfiguration(folder, ["model_type": .some(nil)])
      expectError("`model_type`", "missing") { try load(folder) }
    }
  }

  @Test(
    "sizes that are missing, of another kind, impossible or hostile",
    arguments: ["llama-grouped-query", "qwen2-grouped-query"])
  func sizes(_ name: String) throws {
    let sizes = [
      "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
      "vocab_size", "max_position_embeddings",
    ]
    let values: [JSONValue] = [
      0, -1, -9_223_372_036_854_775_808, 2_147_483_648, 9_223_372_036_854_775_807, 1e300, 2.5, "32", true,
      [32],
      .object([:]),
    ]
    try withCopy(of: name) { folder in
      let original = try Data(contentsOf: folder.appendingPathComponent("config.json"))
      for key in sizes {
        for value in values {
          try original.write(to: folder.appendingPathComponent("config.json"))
          try editConfiguration(folder, [key: value])
          expectError("`\(key)`", "config.json") { try load(folder) }
        }
        try original.write(to: folder.appendingPathComponent("config.json"))
        guard !["num_key_value_heads", "max_position_embeddings"].contains(key) else { continue }
        try editConfiguration(folder, [key: .some(nil)])
        expectError("`\(key)`", "missing") { try load(folder) }
      }
    }
  }

  @Test("the largest sizes that pass for sizes throw before anything is allocated")
  func largeSizes() throws {
    let large: JSONValue = 2_147_483_647
    let keys = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"]
    for changes in keys.map({ [$0: large] }) + [
      ["hidden_size": 2_147_483_640, "num_attention_heads": 4],
      ["num_attention_heads": large, "num_key_value_heads": large, "head_dim": 2_147_483_646],
      ["vocab_size": large, "hidden_size": 2_147_483_640, "intermediate_size": large],
    ] {
      try withCopy(of: llama) { folder in
        try editConfiguration(folder, changes.mapValues { $0 })
        let before = Engine.liveTensorCount
        expectError("config.json") { try load(folder) }
        #expect(Engine.liveTensorCount < before + 10_000)
      }
    }
  }

  @Test("heads that do not divide")
  func heads() throws {
    let cases: [([String: JSONValue?], String)] = [
      (["num_key_value_heads": 3], "`num_key_value_heads`"),
      (["num_key_value_heads": 8], "`num_key_value_heads`"),
      (["num_attention_heads": 5, "num_key_value_heads": 5], "`num_attention_heads`"),
      (["head_dim": 7], "7"), (["head_dim": 2], "2"), (["head_dim": 0], "`head_dim`"),
    ]
    for (changes, part) in cases {
      try withCopy(of: llama) { folder in
        try editConfiguration(folder, changes)
        expectError(part, "config.json") { try load(folder) }
      }
    }
  }

  @Test("numbers that are none, and settings of another kind")
  func settings() throws {
    let cases: [([String: JSONValue?], String)] = [
      (["rms_norm_eps": "small"], "`rms_norm_eps`"),
      (["rms_norm_eps": -1], "`rms_norm_eps`"),
      (["rope_theta": 0], "`rope_theta`"), (["rope_theta": -10000], "`rope_theta`"),
      (["hidden_act": "swish7"], "`swish7`"), (["hidden_act": 3], "`hidden_act`"),
      (["tie_word_embeddings": "yes"], "`tie_word_embeddings`"), (["attention_bias": 1], "`attention_bias`"),
      (["rope_scaling": "linear"], "`rope_scaling`"),
      (["rope_scaling": ["rope_type": "spiral", "factor": 2]], "`spiral`"),
      (["rope_scaling": ["rope_type": "linear"]], "`factor`"),
      (["rope_scaling": ["rope_type": "linear", "factor": 0]], "`factor`"),
      (["rope_scaling": ["rope_type": "dynamic", "factor": -2]], "`factor`"),
      (["rope_scaling": ["rope_type": "llama3", "factor": 8]], "`low_freq_factor`"),
      (
        [
          "rope_scaling": [
            "rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
            "original_max_position_embeddings": 16,
          ]
        ], "`high_freq_factor`"
      ),
      (
        ["rope_scaling": ["rope_type": "yarn", "factor": 4, "attention_factor": "much"]], "`attention_factor`"
      ),
      (["rope_scaling": ["rope_type": "yarn", "factor": 4, "beta_fast": -1]], "`beta_fast`"),
    ]
    for (changes, part) in cases {
      try withCopy(of: llama) { folder in
        try editConfiguration(folder, changes)
        expectError(part, "config.json") { try load(folder) }
      }
    }
  }

  @Test("numbers that are not finite, as Python writes them")
  func notFinite() throws {
    for key in ["hidden_size", "rms_norm_eps", "rope_theta"] {
      for value in [Double.nan, .infinity, -.infinity] {
        try withCopy(of: llama) { folder in
          try editConfiguration(folder, [key: .number(value)])
          expectError("config.json", "line 1", "not JSON") { try load(folder) }
        }
      }
    }
  }

  @Test("windows that do not fit the layers")
  func windows() throws {
    let cases: [([String: JSONValue?], String)] = [
      (["layer_types": ["sliding_attention"]], "`layer_types`"),
      (["layer_types": ["full_attention", "sliding_attention", "rotating"]], "`rotating`"),
      (["sliding_window": 0], "`sliding_window`"), (["sliding_window": "wide"], "`sliding_window`"),
      (["max_window_layers": -1], "`max_window_layers`"),
    ]
    for (changes, part) in cases {
      try withCopy(of: "qwen2-sliding") { folder in
        try editConfiguration(folder, changes)
        expectError(part, "config.json") { try load(folder) }
      }
    }
  }

  @Test("tokens outside the vocabulary throw")
  func tokens() throws {
    let model = try AutoModelForCausalLM.fromPretrained(
      fixture(llama).path, dtype: .float32, device: testDevice)
    for token: Int32 in [-1, 80, .max, .min] {
      expectError("embedding") { _ = try model.logits(ModelInput([[3, token]], device: testDevice)) }
    }
    #expect(try model.logits(ModelInput([[3, 79]], device: testDevice)).shape == [2, 80])
  }
}
