/// Completes the tokens of one or two texts: special tokens around them, types, offsets.
protocol PostProcessor: Sendable {
  init(_ configuration: ComponentConfiguration) throws(TokenizerError)
  /// One encoding for each text comes in; their concatenation is the result.
  func process(_ encodings: [Encoding], addSpecialTokens: Bool) -> [Encoding]
  /// The special tokens before and behind a single text, where that is all that happens to its ids.
  var affixes: (before: [Int32], behind: [Int32]) { get }
}

/// The post-processors of `tokenizer.json`, by their `type`.
enum PostProcessorCatalogue {
  static let types: [String: any PostProcessor.Type] = [
    "BertProcessing": PairProcessing.self,
    "ByteLevel": ByteLevelPostProcessor.self,
    "RobertaProcessing": PairProcessing.self,
    "Sequence": PostProcessorSequence.self,
    "TemplateProcessing": TemplateProcessing.self,
  ]

  static func make(_ configuration: ComponentConfiguration) throws(TokenizerError) -> any PostProcessor {
    let type = try configuration.type()
    guard let entry = types[type] else { throw configuration.unknown(type, known: types.keys) }
    return try entry.init(configuration)
  }
}

/// Applies post-processors one after another.
struct PostProcessorSequence: PostProcessor {
  private let processors: [any PostProcessor]

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    var processors: [any PostProcessor] = []
    for part in try configuration.components("processors") {
      processors.append(try PostProcessorCatalogue.make(part))
    }
    // A template makes of one encoding several; what follows it would take them for several texts.
    for (index, processor) in processors.enumerated()
    where index + 1 < processors.count && !(processor is ByteLevelPostProcessor) {
      guard processors[index + 1] is ByteLevelPostProcessor else {
        throw TokenizerError(
          .unsupported,
          "`\(configuration.path)` of tokenizer.json applies another template behind a template; "
            + "join the two into one.")
      }
    }
    self.processors = processors
  }

  func process(_ encodings: [Encoding], addSpecialTokens: Bool) -> [Encoding] {
    processors.reduce(encodings) { $1.process($0, addSpecialTokens: addSpecialTokens) }
  }

  var affixes: (before: [Int32], behind: [Int32]) {
    processors.reduce(([], [])) { ($1.affixes.before + $0.0, $0.1 + $1.affixes.behind) }
  }
}
