import Adapters
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Adapters as GGUF files against llama.cpp's own converter; see Fixtures/make_gguf_adapters.py.

@Suite struct GGUFAdapterTests {
  private func source(_ name: String) throws -> PretrainedSource {
    try PretrainedSource(
      URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("ModelsTests/Fixtures/\(name)").path)
  }

  private func adapter(_ name: String) throws -> GGUFAdapter {
    try GGUFAdapter(fixture(name), base: source(AdapterFixture(name).baseName))
  }

  private func written(_ name: String, as type: GGUFAdapter.OutType = .f32) throws -> GGUFFile {
    let folder = FileManager.default.temporaryDirectory
    let file = folder.appendingPathComponent("graft-\(UUID().uuidString).gguf")
    defer { try? FileManager.default.removeItem(at: file) }
    try adapter(name).write(to: file, as: type)
    return try GGUFFile(file)
  }

  @Test(
    "a GGUF adapter has the tensors and the metadata that llama.cpp's converter gives it",
    arguments: [
      ("attention", "f32"), ("attention", "f16"), ("all-linear", "f32"), ("rank-pattern", "f32"),
      ("embedding-and-lm-head", "f32"),
    ])
  func converter(_ name: String, _ type: String) throws {
    let wanted = try GGUFFile(fixture("gguf-adapters/\(name).\(type).gguf"))
    let found = try written(name, as: #require(GGUFAdapter.OutType(rawValue: type)))
    #expect(Set(found.tensorNames) == Set(wanted.tensorNames))
    for tensor in wanted.tensorNames {
      let (one, other) = (try found.storedTensor(tensor), try wanted.storedTensor(tensor))
      #expect(one.shape == other.shape && one.type == other.type, "\(tensor)")
      #expect(try one.floats() == other.floats(), "\(tensor)")
    }
    #expect(Set(found.values.keys) == Set(wanted.values.keys))
    for key in wanted.values.keys where key != "general.name" {
      #expect(found.values[key] == wanted.values[key], "\(key)")
    }
    #expect(found.values["general.name"] == .string(name))
  }

  /// The rows of a query or key projection of llama in Hugging Face's order, by the definition: row 2 i of a head is row i, row 2 i + 1
  /// is row i + half.
  private func restored(_ rows: [[Float]], heads: Int) -> [[Float]] {
    let size = rows.count / heads
    return (0..<rows.count).map { row in
      let (head, place) = (row / size, row % size)
      return rows[head * size + (place < size / 2 ? 2 * place : 2 * (place - size / 2) + 1)]
    }
  }

  @Test(
    "alpha over rank, times B A, is the change of the weights, whatever the scale of each layer",
    arguments: ["attention", "rslora", "rslora-patterns", "alpha-pattern", "rank-pattern"])
  func scales(_ name: String) throws {
    let file = try written(name)
    let alpha = try file.values.number("adapter.lora.alpha")
    let model = try AdapterFixture(name).load()
    let before = try weights(model.base)
    try model.mergeAdapter()
    let after = try weights(model.base)
    var compared = 0
    for (path, weight) in after where before[path] != weight {
      let parts = path.split(separator: ".")
      let kind = try #require(
        ["q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"][parts[4]])
      let stored = "blk.\(parts[2]).\(kind).weight"
      let (a, b) = (try file.tensor("\(stored).lora_a"), try file.tensor("\(stored).lora_b"))
      let product = try b.matmul(a) * (alpha / Double(a.size(0)))
      var rows = try (0..<product.size(0)).map { try product.slice($0..<$0 + 1).floats() }
      if kind == "attn_q" { rows = restored(rows, heads: 4) }
      if kind == "attn_k" { rows = restored(rows, heads: 2) }
      let change = zip(weight, before[path]!).map { $0 - $1 }
      let largest = change.map(abs).max()!
      #expect(zip(rows.joined(), change).allSatisfy { abs($0 - $1) < 1e-5 * largest + 1e-7 }, "\(path)")
      compared += 1
    }
    #expect(compared == file.tensorNames.count / 2)
  }

  /// The weights of the linear layers, by path.
  private func weights(_ model: any PretrainedModel) throws -> [String: [Float]] {
    var result: [String: [Float]] = [:]
    for (path, module) in model.namedModules() {
      if let layer = module as? Linear, layer !== model.head {
        result[path] = try layer.weight.dense().detached().floats()
      }
    }
    return result
  }

  @Test(
    "what a GGUF adapter has no place for is refused with what to do instead",
    arguments: [
      ("dora-llama", "`use_dora`", "graft merge"), ("bias-all", "`bias: all`", "graft merge"),
      ("lora-bias", "`lora_bias`", "graft merge"),
      ("trainable-tokens-llama", "`trainable_token_indices`", "graft merge"),
      ("layer-replication-llama", "`layer_replication`", "graft merge"),
      ("modules-to-save-lm-head", "modules_to_save: lm_head", "graft merge"),
      ("ia3-llama", "IA3", "graft merge"), ("pissa-llama", "pissa", "graft convert"),
      ("lm-head-tied", "tied", "graft merge"), ("embedding-tied", "tied", "graft merge"),
    ])
  func refused(_ name: String, _ what: String, _ remedy: String) throws {
    let error = #expect(throws: AdapterError.self) { _ = try adapter(name) }
    let text = "\(try #require(error))"
    #expect(text.contains(what) && text.contains(remedy), "\(text)")
  }

  @Test("an adapter of another base, and numbers that float16 cannot hold, are refused")
  func otherBase() throws {
    #expect(throws: AdapterError.self) {
      _ = try GGUFAdapter(fixture("attention"), base: source("llama-multi-head-tied"))
    }
    let model = try AdapterFixture("attention").load()
    let b = try #require(model.trainableParameters.first { $0.key.hasSuffix("lora_B.weight") })
    try withoutGradient { try b.parameter.value.detached().fillInPlace(1e5) }
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: folder) }
    try model.saveAdapter("default", to: folder)
    let large = try GGUFAdapter(folder, base: source("llama-grouped-query"))
    let file = folder.appendingPathComponent("large.gguf")
    let error = #expect(throws: AdapterError.self) { try large.write(to: file, as: .f16) }
    #expect("\(try #require(error))".contains("65,504"))
    #expect(!FileManager.default.fileExists(atPath: file.path))
    try large.write(to: file, as: .bf16)
    #expect(try GGUFFile(file).values.string("adapter.type") == "lora")
  }
}
