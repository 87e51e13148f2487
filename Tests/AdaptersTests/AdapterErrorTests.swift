import Adapters
import Formats
import Foundation
import JSON
import Models
import TestSupport
import Testing
import Torch

// Whatever is wrong with an adapter's files, loading throws an error that names it and leaves the model as it was.

@Suite struct AdapterErrorTests {
  private let name = "attention"

  /// Loads a changed copy of a fixture; the model must refuse it and be as before.
  private func refused(
    _ parts: String..., onto baseName: String = "llama-grouped-query",
    location: SourceLocation = #_sourceLocation, _ change: (URL) throws -> Void
  ) throws {
    try withTemporaryFolder { folder in
      let copy = folder.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: fixture(name), to: copy)
      try change(copy)
      let model = try PEFTModel(
        base(baseName), LoRAConfig(targetModules: ["q_proj"], initLoRAWeights: .random))
      let input = try ModelInput([[5, 6, 7]], device: testDevice)
      let before = try withoutGradient { try model.base.logits(input).floats() }
      do {
        try model.loadAdapter(copy.path, name: "new")
        Issue.record("nothing was thrown", sourceLocation: location)
      } catch {
        #expect(
          error is AdapterError || error is FormatError, "\(type(of: error)): \(error)",
          sourceLocation: location)
        for part in parts {
          #expect("\(error)".contains(part), "\(error) lacks \(part)", sourceLocation: location)
        }
      }
      #expect(
        model.adapterNames == ["default"] && model.activeAdapters == ["default"], sourceLocation: location)
      #expect(
        try withoutGradient { try model.base.logits(input).floats() } == before, sourceLocation: location)
    }
  }

  private func edit(_ folder: URL, _ changes: [String: JSONValue?]) throws {
    let file = folder.appendingPathComponent("adapter_config.json")
    var json = try readJSON(file)
    for (key, value) in changes { json[key] = value }
    try Data(json.serialized().utf8).write(to: file)
  }

  private func editTensors(_ folder: URL, _ change: (inout [String: Tensor]) throws -> Void) throws {
    let url = folder.appendingPathComponent("adapter_model.safetensors")
    let file = try SafetensorsFile(url)
    var tensors: [String: Tensor] = [:]
    for name in file.tensorNames { tensors[name] = try file.tensor(name) }
    try change(&tensors)
    try Safetensors.write(tensors.map { TensorToWrite(name: $0, tensor: $1) }, to: url)
  }

  // MARK: Files

  @Test("files that are missing, damaged or of another kind")
  func files() throws {
    let configuration = "adapter_config.json"
    try refused(configuration, "cannot be read") {
      try FileManager.default.removeItem(at: $0.appendingPathComponent(configuration))
    }
    try refused("no weights") {
      try FileManager.default.removeItem(at: $0.appendingPathComponent("adapter_model.safetensors"))
      try FileManager.default.removeItem(at: $0.appendingPathComponent("expected.safetensors"))
    }
    try refused(configuration, "not valid JSON") {
      try Data("{".utf8).write(to: $0.appendingPathComponent(configuration))
    }
    try refused(configuration, "not an object") {
      try Data("3".utf8).write(to: $0.appendingPathComponent(configuration))
    }
    let size = try Data(contentsOf: fixture(name).appendingPathComponent("adapter_model.safetensors")).count
    for count in [0, 1, 8, 50, size / 2, size - 1] {
      try refused("adapter_model.safetensors") { folder in
        let file = folder.appendingPathComponent("adapter_model.safetensors")
        try Data(contentsOf: file).prefix(count).write(to: file)
      }
    }
    let model = try PEFTModel(base("llama-grouped-query"))
    expectError("/nowhere/at/all", "check the path") { try model.loadAdapter("/nowhere/at/all") }
  }

  @Test("an adapter for another base")
  func otherBase() throws {
    for other in ["llama-head-dim", "llama-multi-head-tied", "qwen2-sliding", "llama-single-key-value-head"] {
      try refused("adapter at", "base", onto: other) { _ in }
    }
  }

  @Test("tensors that are missing, too many, of another shape, or not numbers")
  func tensors() throws {
    let tensor = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"
    try refused(tensor, "missing") { try editTensors($0) { $0[tensor] = nil } }
    try refused(tensor, "[16, 7]", "[16, 8]") { try editTensors($0) { $0[tensor] = try .ones([16, 7]) } }
    try refused("layers.9.self_attn", "no place") {
      try editTensors($0) {
        $0["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"] = try .ones([8, 32])
      }
    }
    try refused("lora_magnitude_vector", "no place") {
      try editTensors($0) {
        $0["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = try .ones([32])
      }
    }
    for value in [Double.nan, .infinity] {
      try refused(tensor, "diverged") { try editTensors($0) { $0[tensor] = try .full([16, 8], value) } }
    }
  }

  // MARK: Settings

  @Test("a method that is missing or unknown")
  func method() throws {
    try refused("`peft_type`", "missing") { try edit($0, ["peft_type": .some(nil)]) }
    try refused("`VOODOO`", "LORA") { try edit($0, ["peft_type": "VOODOO"]) }
    try refused("`peft_type`") { try edit($0, ["peft_type": 7]) }
  }

  @Test("options that Graft does not have, when they ask for something")
  func unknownOptions() throws {
    for (key, value): (String, JSONValue) in [
      ("use_qalora", true), ("some_new_option", "yes"),
      ("megatron_config", ["a": 1]), ("corda_config", ["a": 1]),
    ] {
      try refused("`\(key)`", "could change what the adapter computes") { try edit($0, [key: value]) }
    }
    try refused("`target_parameters`", "experts") { try edit($0, ["target_parameters": ["a"]]) }
    try refused("`loftq_bits`", "is 3") { try edit($0, ["loftq_config": ["loftq_bits": 3]]) }
    // Of those that ask for nothing there may be any number.
    let model = try PEFTModel(base("llama-grouped-query"))
    try withTemporaryFolder { folder in
      let copy = folder.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: fixture(name), to: copy)
      try edit(copy, ["some_new_option": nil, "another": false, "third": [], "fourth": .object([:])])
      try model.loadAdapter(copy.path)
    }
  }

  @Test("values of another kind, out of range, hostile")
  func values() throws {
    for (key, value): (String, JSONValue) in [
      ("r", "8"), ("r", 0), ("r", -1), ("r", 2.5), ("r", 65_537), ("r", 2_147_483_648),
      ("r", 9_223_372_036_854_775_807), ("r", 1e300), ("r", [8]),
      ("lora_alpha", "16"), ("lora_dropout", 1), ("lora_dropout", -0.1), ("lora_dropout", "none"),
      ("target_modules", 5), ("target_modules", [5]), ("target_modules", .object([:])),
      ("target_modules", "("),
      ("exclude_modules", true), ("modules_to_save", 1), ("modules_to_save", ["no_such_module"]),
      ("bias", "some"), ("bias", 3), ("use_rslora", "yes"), ("init_lora_weights", "pisa"),
      ("init_lora_weights", 3), ("init_lora_weights", "pissa_niter_"),
      ("init_lora_weights", "pissa_niter_-1"),
      ("layer_replication", [[2, 1]]), ("layer_replication", [[0, 1, 2]]), ("layer_replication", 3),
      ("eva_config", 3), ("eva_config", ["rho": 0.5]),
      ("use_dora", "yes"), ("ensure_weight_tying", 1), ("trainable_token_indices", "3"),
      ("trainable_token_indices", [80]), ("trainable_token_indices", [-1]),
      ("trainable_token_indices", [3, 3]),
      ("trainable_token_indices", [2.5]), ("trainable_token_indices", ["q_proj": [3]]),
      ("trainable_token_indices", ["embed_tokens": []]),
      ("layers_to_transform", "first"), ("layers_to_transform", [1.5]), ("layers_pattern", 4),
      ("rank_pattern", ["q_proj": 0]), ("rank_pattern", ["q_proj": 2.5]), ("rank_pattern", ["q_proj": 1e12]),
      ("rank_pattern", ["q_proj": "4"]), ("rank_pattern", [4]), ("alpha_pattern", ["q_proj": "4"]),
      ("lora_bias", 1), ("fan_in_fan_out", true), ("task_type", 3), ("base_model_name_or_path", [1]),
    ] {
      let named = value == "(" ? "`(`" : value == ["no_such_module"] ? "no_such_module" : "`\(key)`"
      try refused(named) { try edit($0, [key: value]) }
    }
    for value in [Double.nan, .infinity] {
      try refused("adapter_config.json", "not JSON") { try edit($0, ["lora_alpha": .number(value)]) }
    }
  }

  @Test("a base is found by the adapter's own setting, or by the path given instead")
  func base_model_name_or_path() throws {
    let adapter = try AdapterFixture(name)
    expectError("llama-grouped-query") {
      _ = try AutoPEFTModelForCausalLM.fromPretrained(adapter.path, device: testDevice)
    }
    let path = fixture("").deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("ModelsTests/Fixtures/llama-grouped-query").path
    let model = try AutoPEFTModelForCausalLM.fromPretrained(
      adapter.path, baseModel: path, dtype: .float32, device: testDevice)
    #expect(try adapter.error(model.base, "logits") < 1e-5)
    try withTemporaryFolder { folder in
      let copy = folder.appendingPathComponent("adapter")
      try FileManager.default.copyItem(at: fixture(name), to: copy)
      try edit(copy, ["base_model_name_or_path": .string(path)])
      let model = try AutoPEFTModelForCausalLM.fromPretrained(copy.path, dtype: .float32, device: testDevice)
      #expect(try adapter.error(model.base, "logits") < 1e-5)
      try edit(copy, ["base_model_name_or_path": nil])
      expectError("`base_model_name_or_path`", "name it") {
        _ = try AutoPEFTModelForCausalLM.fromPretrained(copy.path, device: testDevice)
      }
    }
  }

  @Test(
    "a relative base is looked for from the adapter's folder upwards, and every place is named when there is none"
  )
  func relativeBase() throws {
    let adapter = try AdapterFixture(name)
    let path = fixture("").deletingLastPathComponent().deletingLastPathComponent()
      .appendingPathComponent("ModelsTests/Fixtures/llama-grouped-query")
    try withTemporaryFolder { folder in
      let copy = folder.appendingPathComponent("runs/first/adapter")
      try FileManager.default.createDirectory(
        at: copy.deletingLastPathComponent(), withIntermediateDirectories: true)
      try FileManager.default.copyItem(at: fixture(name), to: copy)
      try edit(copy, ["base_model_name_or_path": "models/tiny"])
      expectError(
        "models/tiny", "runs/first/adapter/models/tiny", folder.appendingPathComponent("models/tiny").path,
        FileManager.default.currentDirectoryPath + "/models/tiny"
      ) { _ = try AutoPEFTModelForCausalLM.fromPretrained(copy.path, device: testDevice) }
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("models"), withIntermediateDirectories: true)
      try FileManager.default.copyItem(at: path, to: folder.appendingPathComponent("models/tiny"))
      // A folder of that name which holds no model does not end the search.
      try FileManager.default.createDirectory(
        at: folder.appendingPathComponent("runs/models/tiny"), withIntermediateDirectories: true)
      let model = try AutoPEFTModelForCausalLM.fromPretrained(copy.path, dtype: .float32, device: testDevice)
      #expect(try adapter.error(model.base, "logits") < 1e-5)
    }
  }

  @Test("a place that cannot be written throws and leaves what was there")
  func unwritable() throws {
    let model = try AdapterFixture(name).load()
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("file")
      try Data("content".utf8).write(to: file)
      #expect(throws: (any Error).self) { try model.savePretrained(file.path) }
      #expect(try Data(contentsOf: file) == Data("content".utf8))
    }
  }
}
