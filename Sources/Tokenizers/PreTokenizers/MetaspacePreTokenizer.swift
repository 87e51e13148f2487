/// How Metaspace treats the start of the text.
enum PrependScheme: String, Sendable {
  case first, never, always
}

/// What the pre-tokenizer and the decoder called Metaspace are configured with.
struct MetaspaceConfiguration: Sendable {
  let replacement: UInt32
  let prependScheme: PrependScheme
  let splits: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    replacement = try configuration.character("replacement")
    splits = try configuration.bool("split", default: true)
    let name = try configuration.optionalString("prepend_scheme")
    guard let scheme = PrependScheme(rawValue: name ?? "always") else {
      throw configuration.wrong("prepend_scheme", "`first`, `never` or `always`")
    }
    // Files written before `prepend_scheme` existed say `add_prefix_space` instead.
    if try configuration.bool("add_prefix_space", default: true) {
      prependScheme = scheme
    } else {
      guard name == nil || scheme == .never else {
        throw configuration.wrong("add_prefix_space", "true, because of `prepend_scheme`")
      }
      prependScheme = .never
    }
  }
}

/// Writes spaces as a visible character and splits in front of it, as SentencePiece does.
struct MetaspacePreTokenizer: PreTokenizer {
  private let configuration: MetaspaceConfiguration
  private let replacement: String
  private let bytes: [UInt8]
  private let space = RegularExpression(literal: " ")

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    self.configuration = try MetaspaceConfiguration(configuration)
    replacement = try configuration.string("replacement")
    bytes = Array(replacement.utf8)
  }

  var needsSource: Bool { configuration.prependScheme == .first }

  func preTokenize(_ text: inout TextPieces) {
    text.rewrite { piece in
      let isFirst = (piece.alignment?.first?.start ?? piece.origin) == 0
      piece.replace(space, with: bytes)
      switch configuration.prependScheme {
      case .never: return
      case .first where !isFirst: return
      case .first, .always: break
      }
      if !piece.bytes.starts(with: bytes) { piece.prepend(replacement) }
    }
    if configuration.splits {
      let replacement = configuration.replacement
      text.split(by: ScalarPattern { $0 == replacement }, .mergedWithNext)
    }
  }
}
