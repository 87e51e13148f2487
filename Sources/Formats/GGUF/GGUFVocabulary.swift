/// The tokenizer that a GGUF file carries in its metadata, as it is stored.
public struct GGUFVocabulary: Sendable {
  /// What a token is, by the numbers of llama.cpp.
  public enum TokenType: Int, Sendable, Hashable {
    case undefined = 0
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `llama` (SentencePiece), `bert` (WordPiece), `t5` (Unigram) …
  public let model: String
  /// `tokenizer.ggml.pre`: the name of the split pattern, such as `smollm` or `qwen2`.
  public let pre: String?
  /// The tokens, by id.
  public let tokens: [String]
  /// One a token; nil when the file does not say.
  public let tokenTypes: [TokenType]?
  /// One a token; nil when the file does not say.
  public let scores: [Float]?
  /// BPE merges by rank, `left right`.
  public let merges: [String]?
  /// The SentencePiece normalizer's tables.
  public let precompiledCharacterMap: [UInt8]?

  public let beginningOfSequenceID: Int?
  public let endOfSequenceID: Int?
  public let endOfTurnID: Int?
  public let endOfMessageID: Int?
  public let unknownID: Int?
  public let separatorID: Int?
  public let paddingID: Int?
  public let maskID: Int?

  /// Flags that the file sets; nil when it does not say, and the model's kind decides.
  public let addsBeginningOfSequence: Bool?
  public let addsEndOfSequence: Bool?
  public let addsSpacePrefix: Bool?
  public let removesExtraWhitespace: Bool?

  /// `tokenizer.chat_template`.
  public let chatTemplate: String?
  /// Further templates by name, `tokenizer.chat_template.NAME`.
  public let namedChatTemplates: [String: String]
}

extension GGUFFile {
  /// The vocabulary, checked: as many types and scores as tokens, ids within them.
  ///
  /// - Throws: `FormatError` when there is none, when a value has the wrong type, or when it contradicts itself.
  public func vocabulary() throws -> GGUFVocabulary {
    let tokens = try values.strings("tokenizer.ggml.tokens")

    func checkCount(_ count: Int?, _ key: String) throws {
      if let count, count != tokens.count {
        throw FormatError.malformed(
          url, "the metadata `\(key)` has \(count) entries for \(tokens.count) tokens")
      }
    }
    func id(_ key: String) throws -> Int? {
      guard let id = try values.optionalInteger("tokenizer.ggml.\(key)") else { return nil }
      // llama.cpp's converter writes -1 (as uint32, too) for "none".
      if id == -1 || id == Int(UInt32.max) { return nil }
      guard tokens.indices.contains(id) else {
        throw FormatError.malformed(
          url, "the metadata `tokenizer.ggml.\(key)` is \(id), but there are only \(tokens.count) tokens")
      }
      return id
    }

    let types = try values.optionalIntegers("tokenizer.ggml.token_type")
    try checkCount(types?.count, "tokenizer.ggml.token_type")
    let scores = try values.optionalNumbers("tokenizer.ggml.scores")
    try checkCount(scores?.count, "tokenizer.ggml.scores")

    var templates: [String: String] = [:]
    let prefix = "tokenizer.chat_template."
    for key in values.keys where key.hasPrefix(prefix) {
      templates[String(key.dropFirst(prefix.count))] = try values.string(key)
    }
    return GGUFVocabulary(
      model: try values.string("tokenizer.ggml.model"),
      pre: try values.optionalString("tokenizer.ggml.pre"),
      tokens: tokens,
      tokenTypes: try types?.map { number in
        guard let type = GGUFVocabulary.TokenType(rawValue: number) else {
          throw FormatError.malformed(
            url, "the metadata `tokenizer.ggml.token_type` holds \(number), which is no type")
        }
        return type
      },
      scores: scores?.map { Float($0) },
      merges: try values.optionalStrings("tokenizer.ggml.merges"),
      precompiledCharacterMap: try values.optionalIntegers("tokenizer.ggml.precompiled_charsmap")?
        .map { UInt8(truncatingIfNeeded: $0) },
      beginningOfSequenceID: try id("bos_token_id"),
      endOfSequenceID: try id("eos_token_id"),
      endOfTurnID: try id("eot_token_id"),
      endOfMessageID: try id("eom_token_id"),
      unknownID: try id("unknown_token_id"),
      separatorID: try id("seperator_token_id") ?? id("separator_token_id"),  // llama.cpp's spelling
      paddingID: try id("padding_token_id"),
      maskID: try id("mask_token_id"),
      addsBeginningOfSequence: try values.optionalBool("tokenizer.ggml.add_bos_token"),
      addsEndOfSequence: try values.optionalBool("tokenizer.ggml.add_eos_token"),
      addsSpacePrefix: try values.optionalBool("tokenizer.ggml.add_space_prefix"),
      removesExtraWhitespace: try values.optionalBool("tokenizer.ggml.remove_extra_whitespaces"),
      chatTemplate: try values.optionalString("tokenizer.chat_template"),
      namedChatTemplates: templates)
  }
}
