/// Rewrites text before it is split into words.
protocol Normalizer: Sendable {
  init(_ configuration: ComponentConfiguration) throws(TokenizerError)
  func normalize(_ text: inout AlignedText)
}

/// The normalizers of `tokenizer.json`, by their `type`.
enum NormalizerCatalogue {
  static let types: [String: any Normalizer.Type] = [
    "ByteLevel": ByteLevelNormalizer.self,
    "Lowercase": Lowercase.self,
    "NFC": UnicodeNormalizer.self,
    "NFD": UnicodeNormalizer.self,
    "NFKC": UnicodeNormalizer.self,
    "NFKD": UnicodeNormalizer.self,
    "Prepend": Prepend.self,
    "Replace": Replace.self,
    "Sequence": NormalizerSequence.self,
    "Strip": Strip.self,
    "StripAccents": StripAccents.self,
  ]

  static func make(_ configuration: ComponentConfiguration) throws(TokenizerError) -> any Normalizer {
    let type = try configuration.type()
    guard let entry = types[type] else { throw configuration.unknown(type, known: types.keys) }
    return try entry.init(configuration)
  }
}

/// Applies normalizers one after another.
struct NormalizerSequence: Normalizer {
  private let normalizers: [any Normalizer]

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    var normalizers: [any Normalizer] = []
    for part in try configuration.components("normalizers") {
      normalizers.append(try NormalizerCatalogue.make(part))
    }
    self.normalizers = normalizers
  }

  func normalize(_ text: inout AlignedText) {
    for normalizer in normalizers { normalizer.normalize(&text) }
  }
}
