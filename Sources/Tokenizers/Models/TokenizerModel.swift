import JSON

/// Turns words into tokens.
protocol TokenizerModel: Sendable {
  /// What `tokenizer.json` calls it.
  static var type: String { get }
  init(_ configuration: ComponentConfiguration, _ lists: ModelLists) throws(TokenizerError)

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

/// The large parts of the model in a `tokenizer.json`, which are no `JSONValue`s; nil where the file has
/// something else in their place.
struct ModelLists {
  var vocabulary: Result<Vocabulary, TokenizerError>?
  var merges: Result<MergeList, TokenizerError>?
}

/// The models of `tokenizer.json`, by their `type`.
enum ModelCatalogue {
  private static let models: [any TokenizerModel.Type] = [BPE.self]

  static func make(
    _ configuration: ComponentConfiguration, _ lists: ModelLists
  ) throws(TokenizerError) -> any TokenizerModel {
    // Files of old versions have no type; then the members tell.
    let type =
      try configuration.optionalString("type")
      ?? (configuration.value["merges"] != nil ? BPE.type : "without a type")
    guard let model = models.first(where: { $0.type == type }) else {
      throw configuration.unknown(type, known: models.map { $0.type })
    }
    return try model.init(configuration, lists)
  }
}
