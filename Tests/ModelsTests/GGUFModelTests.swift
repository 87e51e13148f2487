import Formats
import Foundation
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// GGUF files of the fixtures, written by `make_gguf_fixtures.py` with the gguf package: query and key rows are permuted
// there, names are llama.cpp's, and the configuration is metadata.

@Suite struct GGUFModelTests {
  private static let files = [
    "llama-grouped-query", "llama-head-dim", "llama-multi-head-tied", "qwen2-grouped-query",
  ]

  @Test("a GGUF file gives the logits of the model that it was made from", arguments: files)
  func logits(_ name: String) throws {
    let model = try load("gguf/\(name).gguf")
    let expected = try Expectation(name)
    for index in 0..<expected.count {
      let logits = try model.logits(ModelInput([expected.tokens(index)], device: testDevice))
      #expect(try relativeError(logits, expected.logits(index)) < 1e-5, "sequence \(index)")
    }
  }

  @Test("every weight comes back to the bit", arguments: files)
  func weights(_ name: String) throws {
    let (found, wanted) = (try load("gguf/\(name).gguf", dtype: nil), try load(name))
    #expect(found.dtype == .float32)
    #expect(found.tiesEmbeddings == wanted.tiesEmbeddings)
    #expect(found.description == wanted.description)
    for (one, other) in zip(found.namedParameters(), wanted.namedParameters()) {
      #expect(one.path == other.path)
      #expect(try one.parameter.value.floats() == other.parameter.value.floats(), "\(one.path)")
    }
  }

  @Test("the metadata becomes the configuration that transformers would read")
  func configuration() throws {
    let found = try PretrainedSource(fixture("gguf/llama-grouped-query.gguf").path).configuration
    let wanted = try ModelConfiguration(directory: fixture("llama-grouped-query"))
    for key in [
      "model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
      "num_attention_heads", "num_key_value_heads", "hidden_act", "max_position_embeddings",
      "tie_word_embeddings", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id",
    ] {
      #expect(found.json[key] == wanted.json[key], "\(key)")
    }
    // Stored in fp32, read as what was meant.
    #expect(try found.number("rms_norm_eps") == 1e-5)
    #expect(try found.number("rope_theta") == 10_000)
  }

  @Test("quantized blocks give the logits of the dequantized weights")
  func quantized() throws {
    let expected = try SafetensorsFile(fixture("gguf/llama-grouped-query-q8_0.safetensors"))
    let tokens = try expected.tensor("input_ids").array(of: Int32.self)
    let model = try load("gguf/llama-grouped-query-q8_0.gguf")
    #expect(
      try relativeError(model.logits(ModelInput([tokens], device: testDevice)), expected.tensor("logits"))
        < 1e-5)
    // Asked for no type, blocks become bf16, whose rounding is finer than theirs.
    #expect(try load("gguf/llama-grouped-query-q8_0.gguf", dtype: nil).dtype == .bfloat16)
  }

  @Test("a folder that holds one GGUF file is that model")
  func folder() throws {
    try withTemporaryFolder { folder in
      try FileManager.default.copyItem(
        at: fixture("gguf/llama-head-dim.gguf"), to: folder.appendingPathComponent("a.gguf"))
      let model = try AutoModelForCausalLM.fromPretrained(folder.path, device: testDevice)
      #expect(try model.logits(ModelInput([[5, 6]], device: testDevice)).shape == [2, 80])
      try FileManager.default.copyItem(
        at: fixture("gguf/llama-head-dim.gguf"), to: folder.appendingPathComponent("b.gguf"))
      expectError("2 GGUF files") {
        _ = try AutoModelForCausalLM.fromPretrained(folder.path, device: testDevice)
      }
    }
  }

  /// Replaces one run of bytes by another of the same length.
  private func withEdited(_ name: String, _ old: String, _ new: String, _ body: (String) throws -> Void)
    throws
  {
    var data = try Data(contentsOf: fixture("gguf/\(name).gguf"))
    let range = try #require(data.range(of: Data(old.utf8)))
    #expect(old.utf8.count == new.utf8.count)
    data.replaceSubrange(range, with: Data(new.utf8))
    try withTemporaryFolder { folder in
      let file = folder.appendingPathComponent("edited.gguf")
      try data.write(to: file)
      try body(file.path)
    }
  }

  @Test("an architecture, metadata or tensor that is missing is named")
  func errors() throws {
    try withEdited("qwen2-grouped-query", "qwen2", "quack") { path in
      expectError("`quack`", "llama, qwen2") {
        _ = try AutoModelForCausalLM.fromPretrained(path, device: testDevice)
      }
    }
    try withEdited("llama-grouped-query", "llama.block_count", "llama.block_taunt") { path in
      expectError("llama.block_count") {
        _ = try AutoModelForCausalLM.fromPretrained(path, device: testDevice)
      }
    }
    try withEdited("llama-grouped-query", "blk.1.ffn_down.weight", "blk.7.ffn_down.weight") { path in
      expectError("`model.layers.1.mlp.down_proj.weight`", "missing") {
        _ = try AutoModelForCausalLM.fromPretrained(path, device: testDevice)
      }
    }
    try withEdited("llama-grouped-query", "blk.1.ffn_down.weight", "blk.1.ffn_dawn.weight") { path in
      expectError("blk.1.ffn_dawn.weight") {
        _ = try AutoModelForCausalLM.fromPretrained(path, device: testDevice)
      }
    }
  }
}
