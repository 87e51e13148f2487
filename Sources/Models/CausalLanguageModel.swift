import NeuralNetworks
import Torch

/// A model that predicts the next token: what training, generation and adapters need of every family.
public protocol CausalLanguageModel: Module {
  var configuration: ModelConfiguration { get }
  /// The family it belongs to, with its names and defaults.
  var family: ModelFamily { get }

  var inputEmbedding: Embedding { get }
  /// The projection to the vocabulary (`lm_head`); its weight may be the input embedding's.
  var outputEmbedding: Linear { get }

  var layerCount: Int { get }
  /// The longest sequence that the positions were trained for.
  var contextLength: Int { get }

  /// The heads of the attention layers.
  var attentionShape: AttentionShape { get }

  /// What an adapter puts before each sequence; nil is nothing.
  var virtualTokens: VirtualTokens? { get set }

  /// Whether layers are run again in the backward pass instead of keeping what they computed.
  var usesGradientCheckpointing: Bool { get set }

  /// Lays weights that are multiplied with the same input behind one another; called once, when they are loaded.
  func optimizeLayout() throws

  /// `[T, hidden]`: the states after the last norm, from which ``outputEmbedding`` makes logits.
  ///
  /// ``virtualTokens`` are read before each sequence that begins here, and have no rows in the result. They count in the
  /// lengths of a cache.
  func hiddenStates(_ input: ModelInput) throws -> Tensor
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
}

extension CausalLanguageModel {
  /// Where the weights are.
  public var device: Device { inputEmbedding.device }

  /// The type that the model computes in.
  public var dtype: DType { inputEmbedding.weight.value.dtype }

  public var vocabularySize: Int { inputEmbedding.weight.shape[0] }

  /// Features of each token between the layers.
  public var hiddenSize: Int { inputEmbedding.weight.shape[1] }

  /// Logits `[T, vocabulary]` of every position; for looking at, not for training.
  public func logits(_ input: ModelInput) throws -> Tensor {
    try outputEmbedding(hiddenStates(input))
  }

  /// Logits `[N, vocabulary]` behind the last token of each sequence.
  public func nextTokenLogits(_ input: ModelInput) throws -> Tensor {
    let last = input.layout.offsets.dropFirst().map { Int64($0 - 1) }
    let states = try hiddenStates(input)
    return try outputEmbedding(states.selecting(Tensor(last, device: states.device)))
  }

  /// Whether output and input embedding are one parameter.
  public var tiesEmbeddings: Bool {
    if let codes = outputEmbedding.weight.quantized?.codes {
      return codes === inputEmbedding.quantizedTable?.codes
    }
    return outputEmbedding.weight.parameter === inputEmbedding.weight
  }

  /// A cache for `sequenceCount` sequences of nothing.
  public func makeCache(sequenceCount: Int) -> KeyValueCache {
    KeyValueCache(layerCount: layerCount, sequenceCount: sequenceCount)
  }
}
