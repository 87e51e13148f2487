import JSON

/// The fixed templates of BERT (`[CLS] A [SEP] B [SEP]`) and RoBERTa (`<s> A </s></s> B </s>`).
struct PairProcessing: PostProcessor {
  private let isRoberta: Bool
  private let start: Int32
  private let separator: Int32
  private let trimsOffsets: Bool
  private let addsPrefixSpace: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    isRoberta = try configuration.type() == "RobertaProcessing"
    start = try Self.token(configuration, "cls")
    separator = try Self.token(configuration, "sep")
    // BERT's has neither option.
    trimsOffsets = try configuration.bool("trim_offsets", default: isRoberta) && isRoberta
    addsPrefixSpace = try configuration.bool("add_prefix_space", default: isRoberta) && isRoberta
  }

  /// The id of `["<s>", 0]`.
  private static func token(
    _ configuration: ComponentConfiguration, _ key: String
  ) throws(TokenizerError) -> Int32 {
    guard let pair = configuration.value[key]?.arrayValue, pair.count == 2,
      let id = pair[1].intValue.flatMap({ Int32(exactly: $0) }), id >= 0
    else { throw configuration.wrong(key, "a token and its id") }
    return id
  }

  func process(_ encodings: [Encoding], addSpecialTokens: Bool) -> [Encoding] {
    var texts = encodings
    for index in texts.indices {
      if trimsOffsets { texts[index].trimSpace(addsPrefixSpace: addsPrefixSpace) }
      let type: Int32 = index > 0 && !isRoberta ? 1 : 0
      texts[index].typeIDs = [Int32](repeating: type, count: texts[index].ids.count)
    }
    guard addSpecialTokens else { return texts }
    var result = [Encoding(specialTokens: [start], type: 0)]
    for (index, text) in texts.enumerated() {
      let type: Int32 = index > 0 && !isRoberta ? 1 : 0
      if index > 0, isRoberta { result.append(Encoding(specialTokens: [separator], type: 0)) }
      result.append(text)
      result.append(Encoding(specialTokens: [separator], type: type))
    }
    return result
  }

  var affixes: (before: [Int32], behind: [Int32]) { ([start], [separator]) }
}
