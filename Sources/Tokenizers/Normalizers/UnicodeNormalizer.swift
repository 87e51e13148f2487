/// NFC, NFD, NFKC or NFKD.
struct UnicodeNormalizer: Normalizer {
  private let form: NormalizationForm

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    let type = try configuration.type()
    guard let form = NormalizationForm(rawValue: type) else {
      throw configuration.unknown(type, known: NormalizationForm.allCases.map(\.rawValue))
    }
    self.form = form
  }

  func normalize(_ text: inout AlignedText) { form.normalize(&text) }
}
