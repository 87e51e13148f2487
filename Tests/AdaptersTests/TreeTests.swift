import Adapters
import Foundation
import JSON
import Models
import Testing

// The printed tree, against PEFT's repr of the same model (tree*.txt).

@Suite struct TreeTests {
  private func tree(_ name: String) throws -> String {
    try String(contentsOf: fixture(name), encoding: .utf8).trimmingCharacters(in: .newlines)
  }

  @Test(
    "a model with LoRA on layers and embedding, and a module trained in full, is printed as PEFT prints it")
  func lora() throws {
    var configuration = LoRAConfig(
      r: 4, loraAlpha: 8, loraDropout: 0.05, targetModules: ["q_proj", "embed_tokens"],
      modulesToSave: ["lm_head"])
    configuration.common.taskType = nil
    let model = try PEFTModel(base("llama-grouped-query"), configuration)
    #expect(model.description == (try tree("tree.txt")))
  }

  @Test("two adapters share the class around a layer that both work on")
  func twoAdapters() throws {
    let first = LoRAConfig(r: 4, targetModules: ["q_proj", "embed_tokens"])
    let second = LoRAConfig(r: 2, loraDropout: 0.1, targetModules: ["v_proj", "q_proj", "embed_tokens"])
    let model = try PEFTModel(base("qwen2-grouped-query"), first)
    try model.addAdapter("second", second)
    #expect(model.description == (try tree("tree-two-adapters.txt")))
  }

  @Test("DoRA prints its magnitudes as PEFT does")
  func dora() throws {
    var configuration = LoRAConfig(
      r: 4, loraDropout: 0.05, targetModules: ["q_proj", "embed_tokens"], useDoRA: true)
    configuration.common.taskType = nil
    let model = try PEFTModel(base("qwen2-grouped-query"), configuration)
    #expect(model.description == (try tree("tree-dora.txt")))
  }

  @Test("every method is printed as PEFT prints it")
  func methods() throws {
    let cases = try #require(readJSON(fixture("method-trees.json")).arrayValue)
    let methods = try cases.map { entry in
      let name = try #require(entry["adapter"]?.stringValue)
      var fields = try #require(
        readJSON(fixture(name).appendingPathComponent("adapter_config.json")).objectValue)
      for (key, value) in entry["changes"]?.objectValue ?? [:] { fields[key] = value }
      let method = try AdapterMethod.named(#require(fields["peft_type"]?.stringValue), in: name)
      let model = try PEFTModel(
        base(AdapterFixture(name).baseName), method.configuration(AdapterFields(fields, source: name)))
      #expect(model.description == entry["tree"]?.stringValue, "\(name)")
      return method.peftType
    }
    #expect(Set(methods).count == 8)
  }

  @Test("a base without adapters is printed as itself")
  func bare() throws {
    let base = try base("llama-grouped-query")
    #expect(try PEFTModel(base).description == base.description)
  }
}
