/// Writes the visible space of Metaspace as a space again, except at the start of the first token.
struct MetaspaceDecoder: TokenDecoder {
  private let configuration: MetaspaceConfiguration

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    self.configuration = try MetaspaceConfiguration(configuration)
  }

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
    tokens.enumerated().map { index, token in
      var result: [UInt8] = []
      for scalar in UTF8Text.scalars(token) {
        if scalar != configuration.replacement {
          UTF8Text.append(scalar, to: &result)
        } else if index > 0 || configuration.prependScheme == .never {
          result.append(0x20)
        }
      }
      return result
    }
  }
}
