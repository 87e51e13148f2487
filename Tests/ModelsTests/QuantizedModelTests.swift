import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Models with quantized weights: checkpoints that transformers and bitsandbytes saved (`make_quantized_fixtures.py`), weights that are
// quantized while they are read, and GGUF files that stay packed.

@Suite struct QuantizedModelTests {
  static let checkpoints = ["nf4", "nf4-double", "fp4", "int8"]

  private func logitsError(_ model: any CausalLanguageModel, _ name: String) throws -> Double {
    let expected = try SafetensorsFile(fixture("quantized/\(name).safetensors"))
    let tokens = try expected.tensor("input_ids").array(of: Int32.self)
    return try relativeError(
      model.logits(ModelInput([tokens], device: testDevice)).to(.float32), expected.tensor("logits"))
  }

  @Test("a checkpoint of bitsandbytes gives the logits of its dequantized weights", arguments: checkpoints)
  func loading(_ name: String) throws {
    // The one that computes in bfloat16 rounds its activations.
    let tolerance = name == "nf4-double" ? 2e-2 : 1e-5
    let model = try load("quantized/\(name)")
    #expect(try logitsError(model, name) < tolerance)
    let layers = model.namedModules().compactMap { $0.module as? Linear }
    #expect(layers.contains { $0.weight.quantized != nil })
    #expect(model.outputEmbedding.weight.quantized == nil)
    #expect(model.parameterCount == (try load(Self.base[name]!)).parameterCount)
    #expect(model.description.contains(name == "int8" ? "Linear8bitLt(" : "Linear4bit("))
  }

  private static let base = [
    "nf4": "quantized/base", "nf4-double": "qwen2-tied", "fp4": "qwen2-grouped-query",
    "int8": "quantized/base",
  ]

  private static let settings: [String: BitsAndBytesConfig] = [
    "nf4": BitsAndBytesConfig(.fourBit(.nf4, doubleQuantization: false)),
    "nf4-double": BitsAndBytesConfig(.fourBit(.nf4, doubleQuantization: true), computeType: .bfloat16),
    "fp4": BitsAndBytesConfig(.fourBit(.fp4, doubleQuantization: false), skipModules: ["o_proj", "lm_head"]),
    "int8": BitsAndBytesConfig(.int8),
  ]

  @Test(
    "quantizing while loading, and saving, gives the tensors that transformers saves", arguments: checkpoints)
  func saving(_ name: String) throws {
    let settings = try #require(Self.settings[name])
    let dtype: DType = name == "nf4-double" ? .bfloat16 : .float32
    let model = try AutoModelForCausalLM.fromPretrained(
      fixture(Self.base[name]!).path, dtype: dtype, device: testDevice, quantization: .bitsAndBytes(settings))
    try withTemporaryFolder { folder in
      try model.savePretrained(to: folder)
      let (found, wanted) = (try Checkpoint.open(folder), try Checkpoint.open(fixture("quantized/\(name)")))
      #expect(Set(found.tensorNames) == Set(wanted.tensorNames))
      for tensor in wanted.tensorNames {
        let (one, other) = (try found.tensor(tensor), try wanted.tensor(tensor))
        if tensor.contains("quant_state") {
          // JSON, with an offset that Python prints in double precision.
          let (one, other) = (try json(one), try json(other))
          #expect(one["nested_offset"]?.doubleValue == other["nested_offset"]?.doubleValue, "\(tensor)")
          #expect(one == other, "\(tensor)")
        } else if name == "nf4-double", tensor.hasSuffix(".absmax") {
          // The CPU library's nested codes: see QuantizedWeightTests.
          for (code, theirs) in zip(try one.integers(), try other.integers()) {
            #expect(code == 127 ? theirs <= 131 : abs(code - theirs) <= 1, "\(tensor)")
          }
        } else {
          #expect(one.shape == other.shape && one.dtype == other.dtype, "\(tensor)")
          #expect(try one.bytes() == other.bytes(), "\(tensor)")
        }
      }
      let (configuration, theirs) = (
        try ModelConfiguration(directory: folder),
        try ModelConfiguration(directory: fixture("quantized/\(name)"))
      )
      for (key, value) in try #require(theirs.json["quantization_config"]?.objectValue)
      where key != "llm_int8_skip_modules" {
        #expect(configuration.json["quantization_config"]?[key] == value, "\(key)")
      }
      let again = try loadFolder(folder)
      #expect(
        try relativeError(
          again.logits(ModelInput([[5, 6, 7]], device: testDevice)),
          model.logits(ModelInput([[5, 6, 7]], device: testDevice))) == 0)
    }
  }

  private func json(_ tensor: Tensor) throws -> JSONValue {
    try JSONValue(parsing: Data(tensor.array(of: UInt8.self)))
  }

  private func loadFolder(_ folder: URL) throws -> any CausalLanguageModel {
    try AutoModelForCausalLM.fromPretrained(folder.path, device: testDevice)
  }

  // MARK: GGUF

  @Test(
    "a packed GGUF base computes to the bit what the unpacked one does",
    arguments: ["llama-grouped-query-q8_0"])
  func packed(_ name: String) throws {
    let path = fixture("gguf/\(name).gguf").path
    let packed = try AutoModelForCausalLM.fromPretrained(
      path, dtype: .float32, quantization: .packed)
    let plain = try AutoModelForCausalLM.fromPretrained(path, dtype: .float32)
    #expect(packed.parameterCount == plain.parameterCount)
    #expect(
      packed.dtype == .float32 && packed.device == .cpu && packed.tiesEmbeddings == plain.tiesEmbeddings)
    for (path, module) in plain.namedModules() {
      guard let layer = module as? Linear, let other = packed.module(at: path) as? Linear else { continue }
      #expect(try other.weight.dense().floats() == layer.weight.dense().floats(), "\(path)")
    }
    #expect(packed.inputEmbedding.quantizedTable != nil)
    // Rows of 40 are no whole blocks, and stay dense.
    #expect((packed.module(at: "model.layers.0.mlp.down_proj") as? Linear)?.weight.quantized == nil)
    #expect((packed.module(at: "model.layers.0.self_attn.q_proj") as? Linear)?.weight.quantized != nil)
    let input = try ModelInput([(0..<20).map { Int32($0 * 3 % 80) }])
    #expect(try relativeError(packed.logits(input), plain.logits(input)) < 1e-5)

    try withTemporaryFolder { folder in
      try packed.savePretrained(to: folder)
      let saved = try AutoModelForCausalLM.fromPretrained(folder.path)
      #expect(try relativeError(saved.logits(input), plain.logits(input)) < 1e-5)
    }
    #expect(try packed.inputEmbedding.dense().floats() == plain.inputEmbedding.weight.value.floats())
  }

  // MARK: Bad input

  @Test("a table that lies over its file gives its pages back, unless it is tied or converted")
  func mappedTables() throws {
    func table(_ name: String, _ dtype: DType, packed: Bool = false) throws -> Embedding {
      try AutoModelForCausalLM.fromPretrained(
        fixture(name).path, dtype: dtype, quantization: packed ? .packed : nil
      ).inputEmbedding
    }
    let gguf = "gguf/llama-grouped-query-q8_0.gguf"
    let tokens = try Tensor([3, 1, 3] as [Int64])
    for table in try [table("llama-grouped-query", .float32), table(gguf, .float32, packed: true)] {
      #expect(table.isMapped)
      let expected = try table.dense().embedding(tokens).floats()
      for _ in 0..<2 { #expect(try table.rows(tokens).floats() == expected) }
    }
    #expect(try !table("llama-grouped-query", .bfloat16).isMapped)
    #expect(try !table("llama-multi-head-tied", .float32).isMapped)
    #expect(try !table(gguf, .bfloat16).isMapped)

    // What is written to it must not be read from the file again.
    let changed = try table("llama-grouped-query", .float32)
    let row = try changed.weight.value.slice(3..<4)
    try row.fillInPlace(2)
    #expect(!changed.isMapped)
    for _ in 0..<2 { #expect(try changed.rows(tokens).slice(0..<1).floats().allSatisfy { $0 == 2 }) }
    let replaced = try table("llama-grouped-query", .float32)
    replaced.weight.value = try replaced.weight.value.copy()
    #expect(!replaced.isMapped)
  }

  @Test("blocks of a type that is not computed with are refused by name, packed and unpacked")
  func unsupportedBlocks() throws {
    // IQ4_NL in place of Q8_0: blocks of as many elements, and of fewer bytes.
    var bytes = try Data(contentsOf: fixture("gguf/llama-grouped-query-q8_0.gguf"))
    let name = try #require(bytes.range(of: Data("blk.1.attn_v.weight".utf8)))
    let type = name.upperBound + 4 + 2 * 8
    #expect(bytes[type] == 8)
    bytes[type] = 20
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("other.gguf")
      try bytes.write(to: file)
      for quantization in [nil, BaseQuantization.packed] {
        let error = #expect(throws: (any Error).self) {
          _ = try AutoModelForCausalLM.fromPretrained(
            file.path, quantization: quantization)
        }
        let text = "\(try #require(error))"
        #expect(text.contains("blk.1.attn_v.weight") && text.contains("IQ4_NL"), "\(text)")
      }
    }
  }

  @Test("settings that contradict the model are refused before weights are read")
  func contradictions() throws {
    expectError("no GGUF file", "gguf_packed") {
      _ = try AutoModelForCausalLM.fromPretrained(
        fixture("llama-grouped-query").path, quantization: .packed)
    }
    let bytes = BaseQuantization.bitsAndBytes(BitsAndBytesConfig(.int8, multipliesBytes: true))
    for checkpoint in ["llama-grouped-query", "quantized/int8"] where Engine.hasByteProducts {
      let model = try AutoModelForCausalLM.fromPretrained(
        fixture(checkpoint).path, quantization: bytes)
      let weights = model.namedModules().compactMap { ($0.module as? Linear)?.weight as? Int8Weight }
      #expect(!weights.isEmpty && weights.allSatisfy(\.multipliesBytes))
    }
    let best = Engine.kernelVariant
    defer { Engine.kernelVariant = best }
    Engine.kernelVariant = 1
    expectError("int8_matmul", "load_in_8bit") {
      _ = try AutoModelForCausalLM.fromPretrained(
        fixture("llama-grouped-query").path, quantization: bytes)
    }
    Engine.kernelVariant = best
    expectError("already quantized", "load_in_8bit") {
      _ = try AutoModelForCausalLM.fromPretrained(
        fixture("quantized/nf4").path,
        quantization: .bitsAndBytes(BitsAndBytesConfig(.int8)))
    }
    try withCopy(of: "quantized/nf4") { folder in
      try editConfiguration(folder, ["quantization_config": ["quant_method": "gptq", "bits": 4]])
      expectError("gptq", "bitsandbytes") { _ = try loadFolder(folder) }
    }
    try withCopy(of: "quantized/nf4") { folder in
      try editConfiguration(folder, ["quantization_config": ["quant_method": "bitsandbytes"]])
      expectError("load_in_4bit", "load_in_8bit") { _ = try loadFolder(folder) }
    }
  }

  /// Writes the checkpoint again with one tensor replaced, or left out.
  private func withChanged(
    _ name: String, _ key: String, _ change: (Tensor) throws -> Tensor?, _ body: (URL) throws -> Void
  ) throws {
    try withCopy(of: "quantized/\(name)") { folder in
      let file = folder.appendingPathComponent("model.safetensors")
      let old = try SafetensorsFile(file)
      var tensors: [TensorToWrite] = []
      #expect(old.tensorNames.contains(key))
      for tensor in old.tensorNames {
        guard let value = try tensor == key ? change(old.tensor(tensor)) : old.tensor(tensor) else {
          continue
        }
        tensors.append(TensorToWrite(name: tensor, tensor: value))
      }
      try FileManager.default.removeItem(at: file)
      try Safetensors.writeSharded(
        tensors, metadata: ["format": "pt"], to: folder, maximumShardSize: .standard)
      try body(folder)
    }
  }

  @Test("a quantization state that is cut short, missing or another weight's is named")
  func damage() throws {
    let weight = "model.layers.0.self_attn.q_proj.weight"
    let state = "\(weight).quant_state.bitsandbytes__nf4"
    func expect(_ name: String, _ key: String, _ parts: String..., change: (Tensor) throws -> Tensor?) throws
    {
      try withChanged(name, key, change) { folder in
        do {
          _ = try loadFolder(folder)
          Issue.record("\(key): nothing was thrown")
        } catch {
          for part in parts + [weight] { #expect("\(error)".contains(part), "\(error) lacks \(part)") }
          #expect(error is ModelError)
        }
      }
    }
    func text(_ text: String) throws -> Tensor { try Tensor(Array(text.utf8)) }
    try expect("nf4", weight, "2048") { try $0.slice(0..<100) }
    try expect("nf4", weight, "missing") { _ in nil }
    try expect("nf4", "\(weight).absmax", "constants") { try $0.slice(0..<3) }
    try expect("nf4", "\(weight).absmax", "missing") { _ in nil }
    try expect("nf4", "\(weight).absmax", "uint8") { try $0.to(.uint8) }
    try expect("nf4", "\(weight).quant_map", "values of nf4") { try $0 * 2 }
    try expect("nf4", state, "quant_state") { _ in nil }
    try expect("nf4", state, "not JSON") { try $0.slice(0..<10) }
    try expect("nf4", state, "[16, 32]") { _ in
      try text(#"{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [16, 32]}"#)
    }
    try expect("nf4", state, "blocksize") { _ in
      try text(#"{"quant_type": "nf4", "blocksize": 63, "dtype": "float32", "shape": [64, 64]}"#)
    }
    try expect("nf4-double", "\(weight).nested_absmax", "missing") { _ in nil }
    try expect("nf4-double", "\(weight).nested_quant_map", "256") { try $0.slice(0..<255) }
    try expect("nf4-double", state, "nested") { _ in
      try text(#"{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [32, 32]}"#)
    }
    try expect("int8", "model.layers.0.self_attn.q_proj.SCB", "constants") { try $0.slice(0..<3) }
    try expect("int8", "model.layers.0.self_attn.q_proj.weight_format", "rows") { try $0 + 1 }
    try expect("int8", weight, "int8") { try $0.to(.float32) }
  }
}
