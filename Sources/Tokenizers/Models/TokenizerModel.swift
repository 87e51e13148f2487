import JSON

/// Turns words into tokens.
protocol TokenizerModel: Sendable {
  /// What `tokenizer.json` calls it.
  static var type: String { get }
  /// - Parameter vocabulary: The members of `vocab`, in order, where that is an object.
  init(_ configuration: ComponentConfiguration, vocabulary: [(token: String, id: Int)]) throws(TokenizerError)

  /// Every token, by id.
  var tokens: TokenTable { get }
  /// Tokenizes one word: `word` lies in valid UTF-8; with `isByteLevel`, its bytes stand for
  /// characters of the byte-level alphabet.
  func tokenize(
    _ word: UnsafeBufferPointer<UInt8>, isByteLevel: Bool, cache: inout WordCache,
    into sink: inout TokenSink)
  /// Whether the model can be given byte-level words as bytes.
  var acceptsBytes: Bool { get }
}

/// The models of `tokenizer.json`, by their `type`.
enum ModelCatalogue {
  private static let models: [any TokenizerModel.Type] = [BPE.self]

  static func make(_ configuration: ComponentConfiguration) throws(TokenizerError) -> any TokenizerModel {
    // Files of old versions have no type; then the members tell.
    let type =
      try configuration.optionalString("type")
      ?? (configuration.value["merges"] != nil ? BPE.type : "without a type")
    guard let model = models.first(where: { $0.type == type }) else {
      throw configuration.unknown(type, known: models.map { $0.type })
    }
    return try model.init(configuration, vocabulary: try vocabulary(configuration))
  }

  /// `vocab`, which is parsed as an array of pairs: two tokens may be equal as Swift strings.
  private static func vocabulary(
    _ configuration: ComponentConfiguration
  ) throws(TokenizerError) -> [(token: String, id: Int)] {
    var result: [(token: String, id: Int)] = []
    let items = try configuration.array("vocab")
    result.reserveCapacity(items.count)
    for item in items {
      guard case .array(let pair) = item, pair.count == 2, let token = pair[0].stringValue else {
        throw configuration.wrong("vocab", "an object of tokens and ids")
      }
      // Ids are positions in embedding matrices; the bound keeps a lying file from taking all memory.
      guard let id = pair[1].intValue, (0..<1 << 24).contains(id) else {
        throw TokenizerError(
          .malformed,
          "The token \(token.debugDescription) in `\(configuration.path).vocab` of tokenizer.json has "
            + "no id between 0 and \(1 << 24 - 1). Download the file again.")
      }
      result.append((token, id))
    }
    return result
  }
}
