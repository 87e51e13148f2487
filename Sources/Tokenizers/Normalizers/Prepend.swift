/// Puts a string before text that is not empty.
struct Prepend: Normalizer {
  private let prefix: String

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    prefix = try configuration.string("prepend")
  }

  func normalize(_ text: inout AlignedText) { text.prepend(prefix) }
}
