import Files
import Foundation
import JSON
import Testing
import Tokenizers

@Suite struct FilesTests {
  private func directory() throws -> URL {
    let url = FileManager.default.temporaryDirectory.appending(path: "graft-tokenizer-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    return url
  }

  @Test("a directory's files give roles, template and length, and are saved byte for byte")
  func directoryRoundTrip() throws {
    let source = try directory()
    let target = try directory().appending(path: "new/place")
    defer {
      try? FileManager.default.removeItem(at: source)
      try? FileManager.default.removeItem(at: target)
    }
    let config = """
      {"bos_token": null, "eos_token": {"content": "<|im_end|>", "lstrip": false, "normalized": false},
       "pad_token": "<|endoftext|>", "unk_token": "<unk>",   "model_max_length": 32768,
       "chat_template": "old", "clean_up_tokenization_spaces": false,
       "additional_special_tokens": ["tool_call"],
       "added_tokens_decoder": {"2503": {"content": "tool_call", "special": true, "normalized": false},
                                "2505": {"content": "<extra>", "special": false, "normalized": false, "lstrip": true}}}
      """
    let files: [String: Data] = [
      "tokenizer.json": try Fixture.data("qwen2"), "tokenizer_config.json": Data(config.utf8),
      "chat_template.jinja": Data("{{ messages }}".utf8),
      "special_tokens_map.json": Data(#"{"bos_token": "<|im_start|>"}"#.utf8),
    ]
    for (name, data) in files { try data.write(to: source.appending(path: name)) }
    let tokenizer = try Tokenizer(directory: source)
    #expect(tokenizer.bosToken == nil)
    #expect(tokenizer.eosTokenID == tokenizer.tokenToID("<|im_end|>"))
    #expect(tokenizer.padToken == "<|endoftext|>")
    #expect(tokenizer.modelMaxLength == 32768)
    #expect(tokenizer.chatTemplateSource == "{{ messages }}")
    // Flags in tokenizer_config.json win; tokens that tokenizer.json does not have are added.
    #expect(tokenizer.specialTokens.map(\.content).contains("tool_call"))
    #expect(tokenizer.tokenToID("<extra>") != nil)
    #expect(tokenizer.unkTokenID != nil)
    #expect(tokenizer.encode("a <extra>").last == tokenizer.tokenToID("<extra>"))
    try tokenizer.save(to: target)
    for (name, data) in files {
      #expect(try Data(contentsOf: target.appending(path: name)) == data, "\(name)")
    }
    let again = try Tokenizer(directory: target)
    #expect(again.encode("Hello <extra> 世界") == tokenizer.encode("Hello <extra> 世界"))
  }

  @Test("a directory without tokenizer.json is an error with a remedy")
  func missing() throws {
    let source = try directory()
    defer { try? FileManager.default.removeItem(at: source) }
    let error = #expect(throws: TokenizerError.self) { try Tokenizer(directory: source) }
    #expect(error?.code == .file)
    #expect(error?.message.contains("save_pretrained") == true)
  }

  @Test("a chat template may stand in tokenizer_config.json, alone or among named ones")
  func chatTemplates() throws {
    let data = try Fixture.data("qwen2")
    let single = try Tokenizer(tokenizerJSON: data, config: Data(#"{"chat_template": "x"}"#.utf8))
    #expect(single.chatTemplateSource == "x")
    let config =
      #"{"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#
    let named = try Tokenizer(tokenizerJSON: data, config: Data(config.utf8))
    #expect(named.chatTemplateSource == "d")
    #expect(named.configuration.chatTemplates["tool_use"] == "t")
  }

  /// The metadata that a converter would write for a recorded tokenizer.
  private func metadata(_ name: String, pre: String) throws -> GGUFVocabulary {
    let document = try JSONValue(
      parsing: Fixture.data(name), options: JSONParsingOptions(objectsAsPairs: [["model", "vocab"]]))
    var tokens: [String] = []
    var types: [GGUFVocabulary.TokenType] = []
    func set(_ token: String, _ id: Int, _ type: GGUFVocabulary.TokenType) {
      while tokens.count <= id {
        tokens.append("[PAD\(tokens.count)]")
        types.append(.unused)
      }
      tokens[id] = token
      types[id] = type
    }
    for pair in document["model"]?["vocab"]?.arrayValue ?? [] {
      set(pair[0]?.stringValue ?? "", pair[1]?.intValue ?? 0, .normal)
    }
    for token in document["added_tokens"]?.arrayValue ?? [] {
      set(
        token["content"]?.stringValue ?? "", token["id"]?.intValue ?? 0,
        token["special"]?.boolValue == true ? .control : .userDefined)
    }
    set("[PAD\(tokens.count + 5)]", tokens.count + 5, .unused)
    let merges = (document["model"]?["merges"]?.arrayValue ?? []).map {
      "\($0[0]?.stringValue ?? "") \($0[1]?.stringValue ?? "")"
    }
    var vocabulary = GGUFVocabulary(model: "gpt2", tokens: tokens)
    vocabulary.pre = pre
    vocabulary.tokenTypes = types
    vocabulary.merges = merges
    vocabulary.endOfSequenceID = tokens.firstIndex(of: "<|im_end|>")
    vocabulary.addsBeginningOfSequence = false
    vocabulary.chatTemplate = "{{ x }}"
    vocabulary.contextLength = 2048
    return vocabulary
  }

  @Test(
    "a tokenizer from GGUF metadata equals the one it was made from, also when saved and read again",
    arguments: [
      ("qwen2", "qwen2"), ("smollm", "smollm"),
    ])
  func gguf(_ name: String, _ pre: String) throws {
    let target = try directory()
    defer { try? FileManager.default.removeItem(at: target) }
    let original = try Fixture.tokenizer(name)
    let converted = try Tokenizer(gguf: metadata(name, pre: pre))
    try converted.save(to: target)
    let saved = try Tokenizer(directory: target)
    for line in try Fixture.lines.get().prefix(2000) {
      let ids = original.encode(line)
      #expect(converted.encode(line) == ids)
      #expect(saved.encode(line) == ids)
      #expect(converted.decode(ids, skipSpecialTokens: true) == original.decode(ids, skipSpecialTokens: true))
    }
    #expect(converted.vocabularySize == original.vocabularySize)
    #expect(saved.eosToken == "<|im_end|>")
    #expect(saved.chatTemplateSource == "{{ x }}")
    #expect(saved.modelMaxLength == 2048)
  }

  @Test("a beginning-of-text token is added where GGUF or its kind of tokenizer says so")
  func ggufBeginningOfText() throws {
    var vocabulary = try metadata("llama3", pre: "llama-bpe")
    vocabulary.beginningOfSequenceID = vocabulary.tokens.firstIndex(of: "<|im_start|>")
    vocabulary.addsBeginningOfSequence = nil
    let id = try #require(vocabulary.beginningOfSequenceID).int32
    #expect(try Tokenizer(gguf: vocabulary).encode("a").first == id)
    #expect(try Tokenizer(gguf: vocabulary).encode("a", addSpecialTokens: false).first != id)
    vocabulary.addsBeginningOfSequence = false
    vocabulary.addsEndOfSequence = true
    let tokenizer = try Tokenizer(gguf: vocabulary)
    #expect(tokenizer.encode("a").last == tokenizer.eosTokenID)
  }

  @Test("GGUF metadata that contradicts itself is an error")
  func ggufErrors() throws {
    let good = try metadata("smollm", pre: "smollm")
    func message(_ change: (inout GGUFVocabulary) -> Void) -> String {
      var bad = good
      change(&bad)
      let error = #expect(throws: TokenizerError.self) { try Tokenizer(gguf: bad) }
      return error?.message ?? ""
    }
    #expect(message { $0.model = "llama" }.contains("\"llama\""))
    #expect(message { $0.pre = "klingon" }.contains("\"klingon\""))
    #expect(message { $0.tokens = [] }.contains("empty"))
    #expect(message { $0.tokenTypes = [] }.contains("token_type"))
    #expect(message { $0.endOfSequenceID = 1 << 20 }.contains("eos_token_id"))
    #expect(message { $0.merges = ["nospace"] }.contains("Merge 0"))
    #expect(message { $0.addsBeginningOfSequence = true }.contains("bos_token_id"))
  }
}

extension Int {
  fileprivate var int32: Int32 { Int32(self) }
}
