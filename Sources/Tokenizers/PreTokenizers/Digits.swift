/// Separates numbers from the rest, digit by digit or as runs.
struct Digits: PreTokenizer {
  private let isIndividual: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    isIndividual = try configuration.bool("individual_digits")
  }

  func preTokenize(_ text: inout TextPieces) {
    let properties = ScalarProperties.shared
    text.split(
      by: ScalarPattern { properties.isNumeric($0) }, isIndividual ? .isolated : .contiguous)
  }
}
