import JSON

/// The tokens of a model as `tokenizer.json` lists them.
struct Vocabulary: Sendable {
  /// In the order of the file; a token that is listed twice is here twice.
  private(set) var tokens = ByteStrings()
  private(set) var ids: [Int32] = []

  /// Ids are positions in embedding matrices; the bound keeps a lying file from taking all memory.
  private static let ids = 0..<1 << 24

  /// Reads the object of tokens and ids that comes next. One that is no vocabulary is an error only to whom
  /// asks for it.
  static func read(_ parser: inout JSONParser) throws(JSONError) -> Result<Vocabulary, TokenizerError> {
    var vocabulary = Vocabulary()
    var failure: TokenizerError?
    try parser.members { parser throws(JSONError) in
      try parser.string(into: &vocabulary.tokens.bytes)
    } value: { parser throws(JSONError) in
      vocabulary.tokens.endString()
      let id = try parser.value().intValue
      vocabulary.ids.append(id.flatMap(Int32.init(exactly:)) ?? -1)
      guard failure == nil, id.map(Self.ids.contains) != true else { return }
      failure = TokenizerError(
        .malformed,
        "The token \(vocabulary.tokens[vocabulary.tokens.count - 1].debugDescription) in `model.vocab` of "
          + "tokenizer.json has no id between 0 and \(Self.ids.upperBound - 1). Download the file again.")
    }
    return failure.map(Result.failure) ?? .success(vocabulary)
  }
}
