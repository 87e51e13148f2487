/// Splits at ASCII punctuation and Unicode's category P.
struct Punctuation: PreTokenizer {
  private let behavior: SplitBehavior

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    behavior = try configuration.behavior("behavior", default: .isolated)
  }

  func preTokenize(_ text: inout TextPieces) {
    let properties = ScalarProperties.shared
    text.split(by: ScalarPattern { properties.isPunctuation($0) }, behavior)
  }
}
