/// Turns token strings back into text. Decoders work on lists of strings, as bytes of valid UTF-8; the
/// text is the last list, joined.
protocol TokenDecoder: Sendable {
  init(_ configuration: ComponentConfiguration) throws(TokenizerError)
  func decode(_ tokens: [[UInt8]]) -> [[UInt8]]
}

/// The decoders of `tokenizer.json`, by their `type`.
enum DecoderCatalogue {
  static let types: [String: any TokenDecoder.Type] = [
    "BPEDecoder": EndOfWordDecoder.self,
    "ByteFallback": ByteFallbackDecoder.self,
    "ByteLevel": ByteLevelDecoder.self,
    "Fuse": FuseDecoder.self,
    "Metaspace": MetaspaceDecoder.self,
    "Replace": ReplaceDecoder.self,
    "Sequence": DecoderSequence.self,
    "Strip": StripDecoder.self,
  ]

  static func make(_ configuration: ComponentConfiguration) throws(TokenizerError) -> any TokenDecoder {
    let type = try configuration.type()
    guard let entry = types[type] else { throw configuration.unknown(type, known: types.keys) }
    return try entry.init(configuration)
  }
}

/// Applies decoders one after another.
struct DecoderSequence: TokenDecoder {
  let decoders: [any TokenDecoder]

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    var decoders: [any TokenDecoder] = []
    for part in try configuration.components("decoders") {
      decoders.append(try DecoderCatalogue.make(part))
    }
    self.decoders = decoders
  }

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] {
    decoders.reduce(tokens) { $1.decode($0) }
  }
}

/// Joins all tokens into one.
struct FuseDecoder: TokenDecoder {
  init(_ configuration: ComponentConfiguration) {}

  func decode(_ tokens: [[UInt8]]) -> [[UInt8]] { [Array(tokens.joined())] }
}
