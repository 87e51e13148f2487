import JSON
import OrderedCollections
import Tokenizers

/// A model's tokenizer with its chat template: text and conversations to tokens, tokens to text.
///
/// transformers has both in its tokenizer; here a tokenizer is useful without a template, so they are two parts.
public struct ChatTokenizer: Sendable {
  public let tokenizer: Tokenizer
  /// nil for a model without one, such as a base model.
  public var chatTemplate: ChatTemplate?

  public init(_ tokenizer: Tokenizer, chatTemplate: ChatTemplate?) {
    self.tokenizer = tokenizer
    self.chatTemplate = chatTemplate
  }

  /// A tokenizer with the template among its files, if there is one.
  ///
  /// - Throws: `TemplateError` or `ChatTemplateError` when the template has an error.
  public init(_ tokenizer: Tokenizer) throws {
    self.init(tokenizer, chatTemplate: try tokenizer.chatTemplate())
  }

  /// Tells tokenizers and templates apart in the names of token caches: a hash of their files, the same everywhere.
  public var identity: String {
    var hash = FNV1a()
    hash.combine(tokenizer.identity.utf8)
    hash.combine((chatTemplate?.template.source ?? "").utf8)
    hash.combine((chatTemplate?.toolTemplate?.source ?? "").utf8)
    return hash.description
  }

  // MARK: Text

  public func encode(_ text: String, addSpecialTokens: Bool = true) -> [Int32] {
    tokenizer.encode(text, addSpecialTokens: addSpecialTokens)
  }

  /// The tokens of several texts, as `generate` takes them.
  public func callAsFunction(_ texts: [String], addSpecialTokens: Bool = true) -> [[Int32]] {
    texts.map { encode($0, addSpecialTokens: addSpecialTokens) }
  }

  public func decode(_ tokens: [Int32], skipSpecialTokens: Bool = true) -> String {
    tokenizer.decode(tokens, skipSpecialTokens: skipSpecialTokens)
  }

  /// The texts of several sequences.
  public func batchDecode(_ batch: [[Int32]], skipSpecialTokens: Bool = true) -> [String] {
    tokenizer.batchDecode(batch, skipSpecialTokens: skipSpecialTokens)
  }

  // MARK: Conversations

  /// The tokens of a conversation as the model was trained on it.
  ///
  /// - Parameters:
  ///   - tools: JSON schemas of the functions that the model may call.
  ///   - addGenerationPrompt: end with what begins an answer.
  ///   - variables: more variables of the template, such as `enable_thinking`.
  /// - Throws: ``GenerationError`` when the model has no template; `TemplateError` when the template refuses the
  ///   conversation.
  public func applyChatTemplate(
    _ messages: [Message], tools: [JSONValue]? = nil, addGenerationPrompt: Bool = true,
    variables: OrderedDictionary<String, JSONValue> = [:]
  ) throws -> [Int32] {
    guard let chatTemplate else {
      throw GenerationError(
        "The model has no chat template, so it cannot answer a conversation. Give plain text to continue (`--raw`), "
          + "use an instruction-tuned model, or put a chat_template.jinja beside its tokenizer.json.")
    }
    let text = try chatTemplate.render(
      messages: messages, tools: tools, addGenerationPrompt: addGenerationPrompt, variables: variables)
    // The template writes the special tokens itself.
    return encode(text, addSpecialTokens: false)
  }
}
