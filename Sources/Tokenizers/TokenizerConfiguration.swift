import Foundation
import JSON

/// What the files beside `tokenizer.json` say about a tokenizer.
public struct TokenizerConfiguration: Sendable {
  public internal(set) var bosToken: String?
  public internal(set) var eosToken: String?
  public internal(set) var padToken: String?
  public internal(set) var unkToken: String?
  public internal(set) var modelMaxLength: Int?
  public internal(set) var cleanUpTokenizationSpaces = false
  /// Sources of the chat templates by name; the usual one is called "default".
  public internal(set) var chatTemplates: [String: String] = [:]
  /// Tokens that are special for the model beyond the four with a role.
  var additionalSpecialTokens: [AddedTokenEntry] = []
  /// The tokens with a role, with the flags that the files give them.
  var namedTokens: [AddedTokenEntry] = []
  /// Added tokens that `tokenizer.json` may not have, or have with other flags.
  var addedTokens: [AddedTokenEntry] = []

  /// An added token as files write it: the id may be missing.
  struct AddedTokenEntry: Sendable {
    var id: Int?
    var content: String
    var singleWord = false
    var lstrip = false
    var rstrip = false
    var normalized: Bool
    var special: Bool
    /// Whether the file gives flags; a bare string does not.
    var hasFlags = false
  }

  init() {}

  /// - Throws: ``TokenizerError`` where a member has a wrong type.
  init(
    config: JSONValue?, specialTokensMap: JSONValue?, addedTokens: JSONValue?, chatTemplate: String?
  ) throws(TokenizerError) {
    for (role, path) in [
      ("bos_token", \Self.bosToken), ("eos_token", \.eosToken), ("pad_token", \.padToken),
      ("unk_token", \.unkToken), ("sep_token", nil), ("cls_token", nil), ("mask_token", nil),
    ] as [(String, WritableKeyPath<Self, String?>?)] {
      let isNull = config?[role]?.isNull == true
      guard let value = isNull ? nil : config?[role] ?? specialTokensMap?[role], !value.isNull else {
        continue
      }
      let entry = try Self.entry(value, role)
      namedTokens.append(entry)
      if let path { self[keyPath: path] = entry.content }
    }
    for key in ["additional_special_tokens", "extra_special_tokens"] {
      guard let list = config?[key] ?? specialTokensMap?[key] else { continue }
      let values = list.arrayValue ?? list.objectValue.map { Array($0.values) } ?? []
      for value in values { additionalSpecialTokens.append(try Self.entry(value, key)) }
    }
    for (key, value) in config?["added_tokens_decoder"]?.objectValue ?? [:] {
      guard let id = Int(key), id >= 0 else { throw Self.malformed("added_tokens_decoder", "ids as keys") }
      var entry = try Self.entry(value, "added_tokens_decoder")
      entry.id = id
      self.addedTokens.append(entry)
    }
    for (content, value) in addedTokens?.objectValue ?? [:] {
      guard let id = value.intValue, id >= 0 else {
        throw Self.malformed("added_tokens.json", "ids as values")
      }
      self.addedTokens.append(
        AddedTokenEntry(id: id, content: content, normalized: true, special: false))
    }
    modelMaxLength = config?["model_max_length"]?.intValue
    cleanUpTokenizationSpaces = config?["clean_up_tokenization_spaces"]?.boolValue ?? false
    switch config?["chat_template"] {
    case .string(let source): chatTemplates["default"] = source
    case .array(let templates):
      for template in templates {
        guard let name = template["name"]?.stringValue, let source = template["template"]?.stringValue
        else { throw Self.malformed("chat_template", "objects with `name` and `template`") }
        chatTemplates[name] = source
      }
    case .object(let templates):
      for (name, source) in templates { chatTemplates[name] = source.stringValue }
    default: break
    }
    // The file of its own is the newer place and wins.
    if let chatTemplate { chatTemplates["default"] = chatTemplate }
  }

  private static func entry(_ value: JSONValue, _ key: String) throws(TokenizerError) -> AddedTokenEntry {
    if let content = value.stringValue {
      return AddedTokenEntry(content: content, normalized: false, special: true)
    }
    guard let content = value["content"]?.stringValue else {
      throw malformed(key, "a token, as a string or as an object with `content`")
    }
    let special = value["special"]?.boolValue ?? (key != "added_tokens_decoder")
    return AddedTokenEntry(
      content: content, singleWord: value["single_word"]?.boolValue ?? false,
      lstrip: value["lstrip"]?.boolValue ?? false, rstrip: value["rstrip"]?.boolValue ?? false,
      normalized: value["normalized"]?.boolValue ?? !special, special: special, hasFlags: true)
  }

  private static func malformed(_ key: String, _ expected: String) -> TokenizerError {
    TokenizerError(
      .malformed, "`\(key)` of tokenizer_config.json or its siblings does not hold \(expected). Correct it.")
  }
}
