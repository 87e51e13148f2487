import Adapters
import Foundation
import JSON
import Models
import Testing

// Which modules the settings choose, against what PEFT chose or raised (matching.json).

@Suite struct MatchingTests {
  @Test("modules are matched, or refused, as by PEFT")
  func matching() throws {
    let table = try #require(readJSON(fixture("matching.json")).arrayValue)
    #expect(table.count >= 33)
    for entry in table {
      var settings = try #require(entry["settings"]?.objectValue)
      settings["peft_type"] = "LORA"
      let label = entry["settings"]?.serialized() ?? ""
      let model = try base(#require(entry["base"]?.stringValue))
      func match() throws -> [String] {
        let configuration = try AdapterMethod.named("LORA", in: "test").configuration(
          AdapterFields(settings, source: "the test"))
        return try PEFTModel(model, configuration).targets("default")
      }
      if let matched = entry["matched"]?.arrayValue {
        #expect(try match() == matched.compactMap(\.stringValue), "\(label)")
      } else {
        #expect(throws: AdapterError.self, "\(label): \(entry["error"]?.stringValue ?? "")") {
          _ = try match()
        }
      }
    }
  }

  @Test("the error of a name that matches nothing says which names there are")
  func nothing() throws {
    expectError("`target_modules`", "q_prj", "model.layers.0.mlp.down_proj", "graft inspect") {
      _ = try PEFTModel(base("llama-grouped-query"), LoRAConfig(targetModules: ["q_prj"]))
    }
    expectError("`target_modules`", "all 2", "excluded") {
      _ = try PEFTModel(
        base("llama-grouped-query"), LoRAConfig(targetModules: ["q_proj"], excludeModules: ["q_proj"]))
    }
    expectError("`modules_to_save`", "lm_haed") {
      _ = try PEFTModel(base("llama-grouped-query"), LoRAConfig(modulesToSave: ["lm_haed"]))
    }
  }

  @Test("patterns match what Python's re.fullmatch matches, or are refused as by Python")
  func pythonPatterns() throws {
    let table = try readJSON(fixture("patterns.json"))
    let paths = try #require(table["paths"]?.arrayValue).compactMap(\.stringValue)
    let patterns = try #require(table["patterns"]?.arrayValue)
    #expect(patterns.count > 60)
    // Any model: a pattern asks nothing of it.
    let model = try base("llama-grouped-query")
    for entry in patterns {
      let pattern = try #require(entry["pattern"]?.stringValue)
      if let matched = entry["matched"]?.arrayValue {
        let found = try paths.filter { try ModuleSelection.pattern(pattern).matches($0, in: model) }
        #expect(found == matched.compactMap(\.stringValue), "\(pattern)")
      } else {
        #expect(throws: AdapterError.self, "\(pattern): \(entry["error"]?.stringValue ?? "")") {
          _ = try ModuleSelection.pattern(pattern).matches("q_proj", in: model)
        }
      }
    }
  }

  @Test("what Python has and the matching does not is refused by name")
  func unsupportedPatterns() throws {
    let model = try base("llama-grouped-query")
    for (pattern, reason) in [
      ("(a)?(?(1)b|c)", "conditional groups"), (#"\N{LATIN SMALL LETTER A}"#, "by name"),
    ] {
      expectError(pattern, reason) { _ = try ModuleSelection.pattern(pattern).matches("ab", in: model) }
    }
  }

  @Test("patterns that are not regular expressions are named")
  func patterns() throws {
    for pattern in ["(", "[a-", "a)(b", "*", "(?P<"] {
      expectError(pattern, "regular expression") {
        _ = try PEFTModel(base("llama-grouped-query"), LoRAConfig(targetModules: .pattern(pattern)))
      }
      // Keys of `rank_pattern` stand in a group of their own, where this one is an expression.
      guard pattern != "a)(b" else { continue }
      expectError(pattern, "regular expression") {
        _ = try PEFTModel(
          base("llama-grouped-query"), LoRAConfig(targetModules: ["q_proj"], rankPattern: [pattern: 2]))
      }
    }
  }
}
