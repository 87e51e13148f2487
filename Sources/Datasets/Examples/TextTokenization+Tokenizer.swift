import JSON
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
    encodePair = { tokenizer.encodeWithOffsets($0, pair: $1).ids }
  }

  /// What a model's tokenizer and chat template do.
  ///
  /// - Parameter chatTemplate: `nil` for a model without one.
  public init(_ tokenizer: Tokenizer, chatTemplate: ChatTemplate?, identity: String) {
    guard let chatTemplate else {
      self.init(tokenizer, identity: identity, render: nil)
      return
    }
    let render: Render = { (values: [JSONValue], tools: [JSONValue]?) throws -> (String, [Range<Int>]) in
      var messages: [Message] = []
      for value in values { messages.append(try Message(value)) }
      let rendered = try chatTemplate.renderForTraining(messages: messages, tools: tools)
      return (rendered.text, rendered.supervised)
    }
    self.init(tokenizer, identity: identity, render: render)
  }
}
