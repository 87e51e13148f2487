/// Removes combining marks; letters keep theirs unless NFD took them apart before.
struct StripAccents: Normalizer {
  init(_ configuration: ComponentConfiguration) {}

  func normalize(_ text: inout AlignedText) {
    let properties = ScalarProperties.shared
    text.filter { !properties.isCombiningMark($0) }
  }
}
