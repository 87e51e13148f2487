import Files

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
    var vocabulary = GGUFVocabulary(model: try values.string("tokenizer.ggml.model"), tokens: tokens)
    vocabulary.pre = try values.optionalString("tokenizer.ggml.pre")
    vocabulary.tokenTypes = try types?.map { number in
      guard let type = GGUFVocabulary.TokenType(rawValue: number) else {
        throw FormatError.malformed(
          url, "the metadata `tokenizer.ggml.token_type` holds \(number), which is no type")
      }
      return type
    }
    vocabulary.scores = scores?.map { Float($0) }
    vocabulary.merges = try values.optionalStrings("tokenizer.ggml.merges")
    vocabulary.precompiledCharacterMap =
      try values.optionalIntegers("tokenizer.ggml.precompiled_charsmap")?.map {
        UInt8(truncatingIfNeeded: $0)
      }

    vocabulary.beginningOfSequenceID = try id("bos_token_id")
    vocabulary.endOfSequenceID = try id("eos_token_id")
    vocabulary.endOfTurnID = try id("eot_token_id")
    vocabulary.endOfMessageID = try id("eom_token_id")
    vocabulary.unknownID = try id("unknown_token_id")
    vocabulary.separatorID = try id("seperator_token_id") ?? id("separator_token_id")  // llama.cpp's spelling
    vocabulary.paddingID = try id("padding_token_id")
    vocabulary.maskID = try id("mask_token_id")

    vocabulary.addsBeginningOfSequence = try values.optionalBool("tokenizer.ggml.add_bos_token")
    vocabulary.addsEndOfSequence = try values.optionalBool("tokenizer.ggml.add_eos_token")
    vocabulary.addsSpacePrefix = try values.optionalBool("tokenizer.ggml.add_space_prefix")
    vocabulary.removesExtraWhitespace = try values.optionalBool("tokenizer.ggml.remove_extra_whitespaces")

    vocabulary.chatTemplate = try values.optionalString("tokenizer.chat_template")
    vocabulary.namedChatTemplates = templates
    vocabulary.contextLength =
      try values.architecture == nil ? nil : values.optionalInteger(".context_length")
    return vocabulary
  }
}
