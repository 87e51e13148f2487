/// The tokenizer that a GGUF file carries in its metadata, as it is stored: plain values, which whoever reads the file
/// fills in and a tokenizer is made from.
public struct GGUFVocabulary: Sendable {
  /// What a token is, by the numbers of llama.cpp.
  public enum TokenType: Int, Sendable, Hashable {
    case undefined = 0
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE), `llama` (SentencePiece), `bert` (WordPiece), `t5` (Unigram) …
  public var model: String
  /// `tokenizer.ggml.pre`: the name of the split pattern, such as `smollm` or `qwen2`.
  public var pre: String?
  /// The tokens, by id.
  public var tokens: [String]
  /// One a token; nil when the file does not say.
  public var tokenTypes: [TokenType]?
  /// One a token; nil when the file does not say.
  public var scores: [Float]?
  /// BPE merges by rank, `left right`.
  public var merges: [String]?
  /// The SentencePiece normalizer's tables.
  public var precompiledCharacterMap: [UInt8]?

  public var beginningOfSequenceID: Int?
  public var endOfSequenceID: Int?
  public var endOfTurnID: Int?
  public var endOfMessageID: Int?
  public var unknownID: Int?
  public var separatorID: Int?
  public var paddingID: Int?
  public var maskID: Int?

  /// Flags that the file sets; nil when it does not say, and the model's kind decides.
  public var addsBeginningOfSequence: Bool?
  public var addsEndOfSequence: Bool?
  public var addsSpacePrefix: Bool?
  public var removesExtraWhitespace: Bool?

  /// `tokenizer.chat_template`.
  public var chatTemplate: String?
  /// Further templates by name, `tokenizer.chat_template.NAME`.
  public var namedChatTemplates: [String: String] = [:]
  /// `ARCHITECTURE.context_length`, which becomes `model_max_length`.
  public var contextLength: Int?

  /// A vocabulary that says nothing beyond its kind and its tokens.
  public init(model: String, tokens: [String]) {
    self.model = model
    self.tokens = tokens
  }
}
