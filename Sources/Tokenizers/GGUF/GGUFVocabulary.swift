/// The tokenizer part of a GGUF file's metadata, as plain values: whoever reads the file fills it in.
public struct GGUFVocabulary: Sendable {
  /// `tokenizer.ggml.model`: "gpt2" is byte-level BPE.
  public var model: String
  /// `tokenizer.ggml.pre`: how text is split into words.
  public var pre: String?
  /// `tokenizer.ggml.tokens`, by id.
  public var tokens: [String]
  /// `tokenizer.ggml.token_type`, by id; see ``TokenType``.
  public var tokenTypes: [Int32]
  /// `tokenizer.ggml.merges`: two tokens and a space between them each.
  public var merges: [String]
  /// `tokenizer.ggml.bos_token_id` and its siblings.
  public var bosTokenID: Int?
  public var eosTokenID: Int?
  public var unknownTokenID: Int?
  public var paddingTokenID: Int?
  /// `tokenizer.ggml.add_bos_token`; missing means what the kind of tokenizer does.
  public var addBOSToken: Bool?
  /// `tokenizer.ggml.add_eos_token`.
  public var addEOSToken: Bool?
  /// `tokenizer.ggml.add_space_prefix`.
  public var addSpacePrefix: Bool?
  /// `tokenizer.chat_template`.
  public var chatTemplate: String?
  /// `ARCHITECTURE.context_length`, which becomes `model_max_length`.
  public var contextLength: Int?

  /// The values of `tokenizer.ggml.token_type`.
  public enum TokenType: Int32, Sendable {
    case normal = 1
    case unknown, control, userDefined, unused, byte
  }

  public init(
    model: String, pre: String? = nil, tokens: [String], tokenTypes: [Int32] = [],
    merges: [String], bosTokenID: Int? = nil, eosTokenID: Int? = nil, unknownTokenID: Int? = nil,
    paddingTokenID: Int? = nil, addBOSToken: Bool? = nil, addEOSToken: Bool? = nil,
    addSpacePrefix: Bool? = nil, chatTemplate: String? = nil, contextLength: Int? = nil
  ) {
    self.model = model
    self.pre = pre
    self.tokens = tokens
    self.tokenTypes = tokenTypes
    self.merges = merges
    self.bosTokenID = bosTokenID
    self.eosTokenID = eosTokenID
    self.unknownTokenID = unknownTokenID
    self.paddingTokenID = paddingTokenID
    self.addBOSToken = addBOSToken
    self.addEOSToken = addEOSToken
    self.addSpacePrefix = addSpacePrefix
    self.chatTemplate = chatTemplate
    self.contextLength = contextLength
  }
}
