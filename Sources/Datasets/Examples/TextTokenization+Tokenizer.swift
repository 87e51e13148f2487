import Tokenizers

extension TextTokenization {
  /// What a model's tokenizer does.
  ///
  /// - Parameters:
  ///   - identity: tells the tokenizer and its template apart in the names of token caches.
  ///   - render: the model's chat template; `nil` when it has none.
  public init(_ tokenizer: Tokenizer, identity: String, render: Render?) {
    self.init(
      identity: identity, endOfSequence: tokenizer.eosTokenID,
      encode: { text, addSpecialTokens in
        let encoding = tokenizer.encodeWithOffsets(text, addSpecialTokens: addSpecialTokens)
        return (encoding.ids, zip(encoding.offsets, encoding.isSpecial).map { $1 ? nil : $0 })
      },
      render: render)
  }
}
