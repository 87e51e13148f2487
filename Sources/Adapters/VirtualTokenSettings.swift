import JSON
import Models
import OrderedCollections

/// The settings that all methods with virtual tokens have: PEFT's `PromptLearningConfig`.
public struct VirtualTokenSettings: Sendable, Hashable {
  /// `num_virtual_tokens`, read before each sequence.
  public var count: Int
  /// Sizes of the base, recorded with the adapter; nil until there is a base.
  public private(set) var tokenDim: Int?
  public private(set) var numAttentionHeads: Int?
  public private(set) var numLayers: Int?

  /// Whether the settings are those of a saved adapter (`inference_mode`), whose vectors the file gives.
  let isSaved: Bool

  public init(count: Int) {
    self.count = count
    isSaved = false
  }

  init(_ fields: AdapterFields) throws {
    guard let count = try fields.integer("num_virtual_tokens", maximum: 1_000_000) else {
      throw fields.invalid(
        "num_virtual_tokens",
        remedy: "write how many virtual tokens to put before each sequence, for instance 20"
      )
    }
    self.count = count
    tokenDim = try fields.integer("token_dim")
    numAttentionHeads = try fields.integer("num_attention_heads")
    numLayers = try fields.integer("num_layers")
    isSaved = try fields.bool("inference_mode", default: false)
    guard try fields.integer("num_transformer_submodules", default: 1) == 1 else {
      throw fields.invalid(
        "num_transformer_submodules",
        remedy: "write 1: more are for models of an encoder and a decoder, which Graft does not have yet")
    }
  }

  static let option = AdapterOption(
    "num_virtual_tokens", .integer, default: nil,
    "How many virtual tokens are read before each sequence; has to be given. They count towards the model's context."
  )

  /// Fields of the base's sizes, which Graft fills in by itself.
  static let recordedFields: Set = [
    "token_dim", "num_attention_heads", "num_layers", "num_transformer_submodules",
  ]

  var fields: OrderedDictionary<String, JSONValue> {
    func number(_ value: Int?) -> JSONValue { value.map(JSONValue.integer) ?? .null }
    return [
      "num_virtual_tokens": .integer(count), "token_dim": number(tokenDim),
      "num_attention_heads": number(numAttentionHeads), "num_layers": number(numLayers),
      "num_transformer_submodules": 1,
    ]
  }

  /// Records the sizes of `model`, or checks those that are recorded.
  ///
  /// - Parameter areKeysAndValues: whether the vectors are those of heads, not of the stream between layers.
  /// - Throws: ``AdapterError`` for another model's sizes, and when the model's context has no place for so many tokens.
  mutating func complete(for model: any PretrainedModel, areKeysAndValues: Bool) throws {
    let attention = model.attentionShape
    let heads = areKeysAndValues ? attention.keyValueHeadCount : attention.headCount
    let width = areKeysAndValues ? heads * attention.headDimension : model.hiddenSize
    func record(_ key: String, _ value: inout Int?, _ own: Int) throws {
      guard value == nil || value == own else {
        throw AdapterError(
          "`\(key)` of the adapter is \(value!), and this \(model.typeName)'s is \(own). The adapter is for another base model."
        )
      }
      value = own
    }
    try record("token_dim", &tokenDim, width)
    try record("num_attention_heads", &numAttentionHeads, heads)
    try record("num_layers", &numLayers, model.layerCount)
    guard count < model.contextLength else {
      throw AdapterError(
        "`num_virtual_tokens` is \(count), and this \(model.typeName) has a context of \(model.contextLength) tokens in all. "
          + "Set num_virtual_tokens lower.")
    }
  }
}
