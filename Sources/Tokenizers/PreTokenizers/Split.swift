/// Splits at a pattern.
struct Split: PreTokenizer {
  /// A matcher made by hand, where the pattern is one of the well-known ones.
  private let scanner: WordScanner?
  private let pattern: RegularExpression
  private let behavior: SplitBehavior
  private let invert: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    let (source, expression) = try configuration.pattern("pattern")
    pattern = expression
    behavior = try configuration.behavior("behavior")
    invert = try configuration.bool("invert", default: false)
    // Those patterns leave nothing between their matches: keeping the matches, isolating them, or
    // removing what is no match are all the same.
    let keepsMatches = behavior == .isolated || (behavior == .removed && invert)
    scanner = keepsMatches ? WordScanner(pattern: source) : nil
  }

  func preTokenize(_ text: inout TextPieces) {
    if let scanner {
      text.split(by: scanner)
    } else {
      text.split(by: pattern, behavior, invert: invert)
    }
  }
}
