import JSON
import NeuralNetworks
import Torch

/// A model as it is trained and saved: a ``Backbone`` that makes a state of every token, and a head that makes of states
/// what the model gives. What adapters, loading and saving need of the models of every task.
public protocol PretrainedModel: Module {
  /// What the model is for.
  var task: ModelTask { get }

  var backbone: any Backbone { get }

  /// The last layer: from hidden states to the scores of a vocabulary's tokens, or of labels.
  var head: Linear { get }

  /// What the model gives for a batch: logits of every token's successor, `[T, vocabulary]`, or of each sequence's labels,
  /// `[N, labels]`.
  func logits(_ input: ModelInput) throws -> Tensor

  /// What `config.json` must say of this model beside what the configuration has; nothing by default.
  func complete(_ json: inout JSONValue)
}

/// The body of a model, without a head: what Hugging Face calls `LlamaModel`.
public protocol Backbone: Module {
  var configuration: ModelConfiguration { get }
  /// The family it belongs to, with its names and defaults.
  var family: ModelFamily { get }

  var inputEmbedding: Embedding { get }

  var layerCount: Int { get }
  /// The longest sequence that the positions were trained for.
  var contextLength: Int { get }

  /// The heads of the attention layers.
  var attentionShape: AttentionShape { get }

  /// What an adapter puts before each sequence; nil is nothing.
  var virtualTokens: VirtualTokens? { get set }

  /// Whether it computes what all sequences of a batch begin with once; see ``ModelInput/sharedPrefix``.
  var sharesPrefixes: Bool { get }

  /// Whether layers are run again in the backward pass instead of keeping what they computed.
  var usesGradientCheckpointing: Bool { get set }

  /// Which layers those are, and where their inputs wait.
  var checkpointing: LayerCheckpointing { get set }

  /// Computes layers that read the same input as one product; called once, when the weights are loaded.
  func fuseProjections() throws

  /// Lays the dense weights of such layers behind one another, in memory of this process, for the generation of single tokens; does
  /// nothing where they lie so.
  func optimizeLayout() throws

  /// `[T, hidden]`: the states after the last norm, which the head reads; or `[N, hidden]`, those of some `tokens`.
  ///
  /// ``virtualTokens`` are read before each sequence that begins here, and have no rows in the result. They count in the
  /// lengths of a cache.
  ///
  /// - Parameter tokens: int64 `[N]`, of the input's tokens those whose states are wanted,; nil is all. The last layer does not
  ///   compute the others'.
  func hiddenStates(_ input: ModelInput, tokens: Tensor?) throws -> Tensor
}

extension PretrainedModel {
  public var configuration: ModelConfiguration { backbone.configuration }
  public var family: ModelFamily { backbone.family }
  public var inputEmbedding: Embedding { backbone.inputEmbedding }
  public var layerCount: Int { backbone.layerCount }
  public var contextLength: Int { backbone.contextLength }
  public var attentionShape: AttentionShape { backbone.attentionShape }

  public var virtualTokens: VirtualTokens? {
    get { backbone.virtualTokens }
    set { backbone.virtualTokens = newValue }
  }

  public var usesGradientCheckpointing: Bool {
    get { backbone.usesGradientCheckpointing }
    set { backbone.usesGradientCheckpointing = newValue }
  }

  public var checkpointing: LayerCheckpointing {
    get { backbone.checkpointing }
    set { backbone.checkpointing = newValue }
  }

  public func fuseProjections() throws { try backbone.fuseProjections() }
  public func optimizeLayout() throws { try backbone.optimizeLayout() }

  /// `[T, hidden]`, or those of some tokens, `[N, hidden]`; see ``Backbone/hiddenStates(_:tokens:)``.
  public func hiddenStates(_ input: ModelInput, tokens: Tensor? = nil) throws -> Tensor {
    try backbone.hiddenStates(input, tokens: tokens)
  }

  public func complete(_ json: inout JSONValue) {}

  /// Where the weights are.
  public var device: Device { inputEmbedding.device }

  /// The type that the model computes in.
  public var dtype: DType { inputEmbedding.weight.value.dtype }

  public var vocabularySize: Int { inputEmbedding.weight.shape[0] }

  /// Features of each token between the layers.
  public var hiddenSize: Int { inputEmbedding.weight.shape[1] }

  /// Whether the head and the input embedding are one parameter.
  public var tiesEmbeddings: Bool {
    if let codes = head.weight.quantized?.codes {
      return codes === inputEmbedding.quantizedTable?.codes
    }
    return head.weight.parameter === inputEmbedding.weight
  }

  /// A cache for `sequenceCount` sequences of nothing.
  public func makeCache(sequenceCount: Int) -> KeyValueCache {
    KeyValueCache(layerCount: layerCount, sequenceCount: sequenceCount)
  }
}

/// How layers are run again in the backward pass.
public struct LayerCheckpointing {
  /// How many are, from the first one on; nil is all.
  public var layerCount: Int?
  /// Makes the copy of a layer's input that is kept in its place; nil keeps the input itself.
  public var keep: ((Tensor) throws -> Tensor)?

  public init(layerCount: Int? = nil, keep: ((Tensor) throws -> Tensor)? = nil) {
    self.layerCount = layerCount
    self.keep = keep
  }
}

/// The sizes of a model's attention.
public struct AttentionShape: Sendable, Hashable {
  public let headCount: Int
  /// Heads of keys and values, which divide the others among them.
  public let keyValueHeadCount: Int
  /// Features of each head.
  public let headDimension: Int

  public init(headCount: Int, keyValueHeadCount: Int, headDimension: Int) {
    self.headCount = headCount
    self.keyValueHeadCount = keyValueHeadCount
    self.headDimension = headDimension
  }
}

/// What a model reads in one pass.
public struct ModelInput {
  /// int64 tokens `[T]`.
  public let tokens: Tensor
  public let layout: RaggedLayout
  /// What was read before, when generating.
  public let cache: KeyValueCache?
  /// How many tokens all sequences begin with, which a backbone may compute once; 0 is none.
  package var sharedPrefix = 0

  public init(tokens: Tensor, layout: RaggedLayout, cache: KeyValueCache? = nil) {
    self.tokens = tokens
    self.layout = layout
    self.cache = cache
  }

  /// Sequences of tokens, behind what `cache` holds of them.
  public init(_ sequences: [[Int32]], cache: KeyValueCache? = nil, device: Device = .cpu) throws {
    try self.init(
      tokens: Tensor(sequences.flatMap { $0.map(Int64.init) }, device: device),
      layout: RaggedLayout(lengths: sequences.map(\.count), starts: cache?.lengths, device: device),
      cache: cache)
  }

  /// The sequences' last tokens among all, int64 `[N]`: under causal attention the only ones that have seen the whole
  /// sequence. Nil when there are no others.
  func lastTokens() throws -> Tensor? {
    if layout.sequences.allSatisfy({ $0.count == 1 }) { return nil }
    return try Tensor(layout.offsets.dropFirst().map { Int64($0 - 1) }, device: tokens.device)
  }
}
