/// GPT-2's words (unless another pre-tokenizer has split before), handed to the model as bytes.
struct ByteLevelPreTokenizer: PreTokenizer {
  private let addsPrefixSpace: Bool
  private let usesRegex: Bool

  init(_ configuration: ComponentConfiguration) throws(TokenizerError) {
    addsPrefixSpace = try configuration.bool("add_prefix_space")
    usesRegex = try configuration.bool("use_regex", default: true)
  }

  func preTokenize(_ text: inout TextPieces) {
    if addsPrefixSpace {
      text.rewrite { piece in
        if piece.bytes.first != 0x20 { piece.prepend(" ") }
      }
    }
    if usesRegex { text.split(by: WordScanner.gpt2) }
    text.markByteLevel()
  }
}
