/// Splits text into words, across which no token reaches.
protocol PreTokenizer: Sendable {
  init(_ configuration: ComponentConfiguration) throws(TokenizerError)
  func preTokenize(_ text: inout TextPieces)
  /// Whether it looks at where pieces came from, so that sources have to be tracked.
  var needsSource: Bool { get }
}

extension PreTokenizer {
  var needsSource: Bool { false }
}

/// The pre-tokenizers of `tokenizer.json`, by their `type`.
enum PreTokenizerCatalogue {
  static let types: [String: any PreTokenizer.Type] = [
    "ByteLevel": ByteLevelPreTokenizer.self,
    "Digits": Digits.self,
    "Metaspace": MetaspacePreTokenizer.self,
    "Punctuation": Punctuation.self,
    "Sequence": PreTokenizerSequence.self,
    "Split": Split.self,
    "Whitespace": Whitespace.self,
    "WhitespaceSplit": WhitespaceSplit.self,
  ]

  static func make(_ configuration: ComponentConfiguration) throws(TokenizerError) -> any PreTokenizer {
    let type = try configuration.type()
    guard let entry = types[type] else { throw configuration.unknown(type, known: types.keys) }
    return try entry.init(configuration)
  }
}

/// Applies pre-tokenizers one after another, each to the pieces of the one before.
struct PreTokenizerSequence: PreTokenizer {
  private let preTokenizers: [any PreTokenizer]

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    var preTokenizers: [any PreTokenizer] = []
    for part in try configuration.components("pretokenizers") {
      preTokenizers.append(try PreTokenizerCatalogue.make(part))
    }
    self.preTokenizers = preTokenizers
  }

  func preTokenize(_ text: inout TextPieces) {
    for preTokenizer in preTokenizers { preTokenizer.preTokenize(&text) }
  }

  var needsSource: Bool { preTokenizers.contains(where: \.needsSource) }
}

extension ComponentConfiguration {
  /// A split behaviour under `key`.
  func behavior(_ key: String, default fallback: SplitBehavior? = nil) throws(TokenizerError)
    -> SplitBehavior
  {
    if let fallback, value[key] == nil { return fallback }
    guard let behavior = SplitBehavior(rawValue: try string(key)) else {
      throw wrong(
        key, "one of Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous")
    }
    return behavior
  }
}
