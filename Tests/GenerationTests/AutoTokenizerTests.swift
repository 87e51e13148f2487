import Foundation
import Generation
import JSON
import Testing
import Tokenizers

@Suite("Tokenizers of models")
struct AutoTokenizerTests {
  static let template =
    "{% for m in messages %}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}"
    + "{% if add_generation_prompt %}assistant:{% endif %}"

  private func model(_ more: [String: String] = [:]) throws -> URL {
    var files = [
      "tokenizer.json": try Data(contentsOf: Fixture.tokenizers.appending(path: "smollm.json")),
      "tokenizer_config.json": Data(#"{"eos_token": "<|endoftext|>"}"#.utf8),
    ]
    for (name, text) in more { files[name] = Data(text.utf8) }
    return try Fixture.folder(files)
  }

  @Test("a conversation becomes the tokens of its text, special tokens included")
  func conversation() throws {
    let folder = try model(["chat_template.jinja": Self.template])
    defer { try? FileManager.default.removeItem(at: folder) }
    let tokenizer = try AutoTokenizer.fromPretrained(folder.path)
    let end = try #require(tokenizer.tokenizer.eosTokenID)
    let tokens = try tokenizer.applyChatTemplate([.system("be brief"), .user("hello")])
    #expect(tokens.filter { $0 == end }.count == 2)
    #expect(
      tokenizer.decode(tokens, skipSpecialTokens: false)
        == "system:be brief<|endoftext|>user:hello<|endoftext|>assistant:")
    #expect(try tokenizer.applyChatTemplate([.user("a")], addGenerationPrompt: false).count < tokens.count)
  }

  @Test("a model without a template refuses conversations and says what to do")
  func noTemplate() throws {
    let folder = try model()
    defer { try? FileManager.default.removeItem(at: folder) }
    let tokenizer = try AutoTokenizer.fromPretrained(folder.path)
    #expect(tokenizer.chatTemplate == nil)
    #expect { try tokenizer.applyChatTemplate([.user("a")]) } throws: {
      "\($0)".contains("chat_template.jinja")
    }
    #expect(tokenizer.decode(tokenizer.encode("plain text works")) == "plain text works")
  }

  @Test("the identity is of the files: the same for a copy, another for another template")
  func identity() throws {
    let (first, copy) = (try model(), try model())
    let other = try model(["chat_template.jinja": Self.template])
    defer { for folder in [first, copy, other] { try? FileManager.default.removeItem(at: folder) } }
    let identities = try [first, copy, other].map { try AutoTokenizer.fromPretrained($0.path).identity }
    #expect(identities[0] == identities[1])
    #expect(identities[0] != identities[2])
    #expect(identities[0].wholeMatch(of: /[0-9a-f]{16}/) != nil)
  }

  @Test("an adapter's own tokenizer goes before its base's")
  func adapter() throws {
    let base = try model()
    let config = JSONValue.object(["base_model_name_or_path": .string(base.path)]).serialized()
    let bare = try Fixture.folder(["adapter_config.json": Data(config.utf8)])
    let own = try model(["adapter_config.json": config, "chat_template.jinja": Self.template])
    defer { for folder in [base, bare, own] { try? FileManager.default.removeItem(at: folder) } }
    #expect(try AutoTokenizer.fromPretrained(bare.path).chatTemplate == nil)
    #expect(try AutoTokenizer.fromPretrained(own.path).chatTemplate != nil)
  }

  @Test("missing files are named")
  func missing() throws {
    let empty = try Fixture.folder(["config.json": Data("{}".utf8)])
    let orphan = try Fixture.folder([
      "adapter_config.json": Data(#"{"base_model_name_or_path": "no/such"}"#.utf8)
    ])
    defer { for folder in [empty, orphan] { try? FileManager.default.removeItem(at: folder) } }
    #expect { try AutoTokenizer.fromPretrained("/no/such/model") } throws: {
      "\($0)".contains("There is no tokenizer at /no/such/model")
    }
    #expect { try AutoTokenizer.fromPretrained(empty.path) } throws: { "\($0)".contains("tokenizer.json") }
    #expect { try AutoTokenizer.fromPretrained(orphan.path) } throws: { "\($0)".contains("`no/such`") }
  }
}
