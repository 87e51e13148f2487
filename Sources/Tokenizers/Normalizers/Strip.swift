/// Removes white space at the ends.
struct Strip: Normalizer {
  private let left: Bool
  private let right: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    left = try configuration.bool("strip_left")
    right = try configuration.bool("strip_right")
  }

  func normalize(_ text: inout AlignedText) { text.strip(left: left, right: right) }
}
