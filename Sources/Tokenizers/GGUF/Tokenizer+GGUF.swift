import Files
import Foundation
import JSON
import OrderedCollections

extension Tokenizer {
  /// Makes the tokenizer that a GGUF file describes. It is put into the form of `tokenizer.json` first,
  /// so that it works as one that was read from there, and `save(to:)` writes that form.
  ///
  /// - Throws: ``TokenizerError`` where the metadata contradicts itself, or names a kind of tokenizer that
  ///   is not implemented.
  public convenience init(gguf vocabulary: GGUFVocabulary) throws {
    try self.init(files: GGUFConverter(vocabulary).files())
  }
}

/// Writes GGUF's metadata as Hugging Face's files.
struct GGUFConverter {
  private let vocabulary: GGUFVocabulary
  private let kind: GGUFPreTokenizer
  private let types: [GGUFVocabulary.TokenType]

  init(_ vocabulary: GGUFVocabulary) throws(TokenizerError) {
    guard vocabulary.model == "gpt2" else {
      throw TokenizerError(
        .unsupported,
        "The GGUF file has a tokenizer of the kind \(vocabulary.model.debugDescription) "
          + "(`tokenizer.ggml.model`); only byte-level BPE, \"gpt2\", is implemented. Use the model's "
          + "tokenizer.json.")
    }
    let pre = vocabulary.pre ?? "default"
    guard let make = GGUFPreTokenizer.names[pre] else {
      throw TokenizerError(
        .unsupported,
        "The GGUF file splits words as \(pre.debugDescription) (`tokenizer.ggml.pre`), which is not "
          + "implemented. Known are \(GGUFPreTokenizer.names.keys.sorted().joined(separator: ", ")). Use the "
          + "model's tokenizer.json.")
    }
    guard !vocabulary.tokens.isEmpty else {
      throw Self.malformed("`tokenizer.ggml.tokens` is empty")
    }
    let types = vocabulary.tokenTypes ?? vocabulary.tokens.map { _ in .normal }
    guard types.count == vocabulary.tokens.count else {
      throw Self.malformed(
        "`tokenizer.ggml.token_type` has \(types.count) entries for \(vocabulary.tokens.count) tokens")
    }
    for (key, id) in [
      ("bos", vocabulary.beginningOfSequenceID), ("eos", vocabulary.endOfSequenceID),
      ("unknown", vocabulary.unknownID), ("padding", vocabulary.paddingID),
    ] {
      guard let id, !vocabulary.tokens.indices.contains(id) else { continue }
      throw Self.malformed(
        "`tokenizer.ggml.\(key)_token_id` is \(id), but there are \(vocabulary.tokens.count) tokens")
    }
    self.vocabulary = vocabulary
    self.types = types
    kind = make(vocabulary.addsSpacePrefix ?? false)
  }

  private static func malformed(_ what: String) -> TokenizerError {
    TokenizerError(
      .malformed, "The tokenizer in the GGUF file contradicts itself: \(what). Download the file again.")
  }

  /// Rows of the embedding matrix that no token has are listed as `[PAD151700]` by converters.
  private func isFiller(_ id: Int) -> Bool {
    types[id] == .unused && vocabulary.tokens[id] == "[PAD\(id)]"
  }

  private func token(_ id: Int?) -> JSONValue? { id.map { .string(vocabulary.tokens[$0]) } }

  /// `tokenizer.json` without the lists of its last member, the model.
  private func document() throws(TokenizerError) -> JSONValue {
    var added: [JSONValue] = []
    for (id, type) in types.enumerated() where type == .control || type == .userDefined {
      added.append([
        "id": .integer(id), "content": .string(vocabulary.tokens[id]), "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": .bool(type == .control),
      ])
    }
    let model: JSONValue = [
      "type": "BPE", "dropout": nil, "unk_token": nil, "continuing_subword_prefix": nil,
      "end_of_word_suffix": nil, "fuse_unk": false, "byte_fallback": false,
      "ignore_merges": .bool(kind.ignoresMerges),
    ]
    let byteLevel: JSONValue = [
      "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false,
    ]
    return [
      "version": "1.0", "truncation": nil, "padding": nil, "added_tokens": .array(added),
      "normalizer": kind.normalizer, "pre_tokenizer": kind.preTokenizer,
      "post_processor": try template() ?? byteLevel, "decoder": byteLevel, "model": model,
    ]
  }

  /// The template with the tokens at the start and end of a text; nil where none is added.
  private func template() throws(TokenizerError) -> JSONValue? {
    let addsBOS = vocabulary.addsBeginningOfSequence ?? kind.addsBOSToken
    let addsEOS = vocabulary.addsEndOfSequence ?? false
    guard addsBOS || addsEOS else { return nil }
    var special: OrderedDictionary<String, JSONValue> = [:]
    func piece(_ id: Int?, _ key: String, _ type: Int) throws(TokenizerError) -> JSONValue {
      guard let id else {
        throw Self.malformed(
          "`tokenizer.ggml.add_\(key)_token` is set without `tokenizer.ggml.\(key)_token_id`")
      }
      let token = vocabulary.tokens[id]
      special[token] = ["id": .string(token), "ids": [.integer(id)], "tokens": [.string(token)]]
      return ["SpecialToken": ["id": .string(token), "type_id": .integer(type)]]
    }
    func sequence(_ name: String, _ type: Int) throws(TokenizerError) -> [JSONValue] {
      var pieces: [JSONValue] = []
      if addsBOS { pieces.append(try piece(vocabulary.beginningOfSequenceID, "bos", type)) }
      pieces.append(["Sequence": ["id": .string(name), "type_id": .integer(type)]])
      if addsEOS { pieces.append(try piece(vocabulary.endOfSequenceID, "eos", type)) }
      return pieces
    }
    let first = try sequence("A", 0)
    let second = try sequence("B", 1)
    return [
      "type": "TemplateProcessing", "single": .array(first), "pair": .array(first + second),
      "special_tokens": .object(special),
    ]
  }

  /// `tokenizer_config.json`.
  private var configuration: JSONValue {
    var members: OrderedDictionary<String, JSONValue> = roles
    members["clean_up_tokenization_spaces"] = false
    if let length = vocabulary.contextLength { members["model_max_length"] = .integer(length) }
    members["tokenizer_class"] = "PreTrainedTokenizerFast"
    return .object(members)
  }

  /// The tokens with a role: the contents of `special_tokens_map.json`.
  private var roles: OrderedDictionary<String, JSONValue> {
    var members: OrderedDictionary<String, JSONValue> = [:]
    members["bos_token"] = token(vocabulary.beginningOfSequenceID)
    members["eos_token"] = token(vocabulary.endOfSequenceID)
    members["unk_token"] = token(vocabulary.unknownID)
    members["pad_token"] = token(vocabulary.paddingID)
    return members
  }

  func files() throws(TokenizerError) -> TokenizerFiles {
    var contents = [
      TokenizerFiles.tokenizer: Data(try text()),
      TokenizerFiles.configuration: Data((configuration.serialized(indent: 2) + "\n").utf8),
      TokenizerFiles.specialTokensMap: Data((JSONValue.object(roles).serialized(indent: 2) + "\n").utf8),
    ]
    contents[TokenizerFiles.chatTemplate] = vocabulary.chatTemplate.map { Data($0.utf8) }
    return TokenizerFiles(contents: contents)
  }

  /// `tokenizer.json` as text. The model's lists are written from the strings: there are hundreds of thousands of
  /// them, and two tokens may be the same Swift string, which a dictionary cannot hold.
  private func text() throws(TokenizerError) -> [UInt8] {
    var text = Array(try document().serialized().utf8)
    text.removeLast("}}".utf8.count)
    text += #", "vocab": {"#.utf8
    var separator = ""
    // With every token, added ones too: so they keep their ids wherever the file is read.
    for (id, token) in vocabulary.tokens.enumerated() where !isFiller(id) {
      text += separator.utf8
      JSONValue.string(token).serialize(into: &text)
      text += ": \(id)".utf8
      separator = ", "
    }
    text += #"}, "merges": ["#.utf8
    separator = "["
    for (index, line) in (vocabulary.merges ?? []).enumerated() {
      let (left, right) = try MergeList.split(Array(line.utf8), index)
      text += separator.utf8
      JSONValue.string(String(decoding: left, as: UTF8.self)).serialize(into: &text)
      text += ", ".utf8
      JSONValue.string(String(decoding: right, as: UTF8.self)).serialize(into: &text)
      text += "]".utf8
      separator = ", ["
    }
    text += "]}}".utf8
    return text
  }
}
