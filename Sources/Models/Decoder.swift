import NeuralNetworks
import Torch

// The decoder that Llama shaped and most families share: RMSNorm, rotary positions, grouped-query attention, a gated
// MLP, residual connections. Shapes: T tokens of all sequences, hidden features, heads × headDim.

/// Attention with rotary positions and grouped key-value heads.
public final class DecoderAttention: Module, Sublayer {
  public let qProj: Linear
  public let kProj: Linear
  public let vProj: Linear
  public let oProj: Linear

  private let configuration: DecoderConfiguration
  /// Where its keys and values are in a cache.
  let layerIndex: Int
  /// Tokens that it may see; nil is all.
  let window: Int?
  /// Query, key and value, which read the same input.
  let projections: LinearGroup

  public var kind: SublayerKind { .attention }
  var keyValueHeadCount: Int { configuration.keyValueHeadCount }
  /// The factor of the scores.
  var scale: Double { 1 / Double(configuration.headDimension).squareRoot() }
  public var adapters: [any SublayerAdapter] = []

  init(_ configuration: DecoderConfiguration, layerIndex: Int) throws {
    self.configuration = configuration
    self.layerIndex = layerIndex
    window = configuration.slidingWindow(layer: layerIndex)
    let hidden = configuration.hiddenSize
    let queries = configuration.headCount * configuration.headDimension
    let keys = configuration.keyValueHeadCount * configuration.headDimension
    qProj = try Linear(hidden, queries, bias: configuration.queryKeyValueBias)
    kProj = try Linear(hidden, keys, bias: configuration.queryKeyValueBias)
    vProj = try Linear(hidden, keys, bias: configuration.queryKeyValueBias)
    oProj = try Linear(queries, hidden, bias: configuration.outputBias)
    projections = LinearGroup([qProj, kProj, vProj])
  }

  /// The same attention at another place: its parameters, adapters of its own.
  init(sharing other: DecoderAttention, layerIndex: Int) {
    configuration = other.configuration
    self.layerIndex = layerIndex
    window = other.window
    qProj = Linear(sharing: other.qProj)
    kProj = Linear(sharing: other.kProj)
    vProj = Linear(sharing: other.vProj)
    oProj = Linear(sharing: other.oProj)
    projections = LinearGroup([qProj, kProj, vProj], sharing: other.projections)
  }

  /// `[T, hidden]` → `[T, hidden]`, or the rows of it that are wanted.
  func callAsFunction(
    _ input: Tensor, rotary: RotaryTables, layout tokenLayout: RaggedLayout, cache: KeyValueCache?,
    attended: (any AttentionRows)?, wanted: WantedRows? = nil
  ) throws -> Tensor {
    let layout = attended?.layout ?? tokenLayout
    let (heads, keyHeads) = (configuration.headCount, configuration.keyValueHeadCount)
    let headDimension = configuration.headDimension

    var output: Tensor  // [T, heads, headDim]
    if let projected = try projections(input) {  // [T, (heads + 2 · keyHeads) · headDim]
      var fused = try rotary.rotate(projected, first: heads + keyHeads)
        .reshaped(-1, heads + 2 * keyHeads, headDimension)
      if let attended { fused = try attended.weave(fused: fused) }
      if let cache {
        let parts = try fused.split([heads, keyHeads, keyHeads], dimension: 1)
        output = try cache.attend(
          layer: layerIndex, parts[0], parts[1], parts[2], layout: layout, scale: scale, window: window)
      } else {
        output = try raggedAttention(
          fused: fused, keyValueHeads: keyHeads, layout: layout, scale: scale, window: window)
      }
    } else {
      var query = try rotary.rotate(qProj(input), heads: heads)
      var key = try rotary.rotate(kProj(input), heads: keyHeads)
      var value = try vProj(input).reshaped(-1, keyHeads, headDimension)
      if let attended { (query, key, value) = try attended.weave(query, key, value) }
      output =
        if let cache {
          try cache.attend(layer: layerIndex, query, key, value, layout: layout, scale: scale, window: window)
        } else {
          try raggedAttention(query, key, value, layout: layout, scale: scale, window: window)
        }
    }
    output = try wanted?.ofRead(output) ?? attended?.tokens(of: output) ?? output
    return try oProj(output.reshaped(-1, heads * headDimension))
  }

  public override var typeName: String { configuration.className + "Attention" }
}

/// down(act(gate(x)) · up(x)) (Shazeer 2020, arXiv:2002.05202).
public final class DecoderMLP: Module, Sublayer {
  public let gateProj: Linear
  public let upProj: Linear
  public let downProj: Linear
  public let actFn: Activation

  private let className: String
  /// Gate and up, which read the same input.
  let projections: LinearGroup

  public var kind: SublayerKind { .feedForward }
  public var adapters: [any SublayerAdapter] = []

  init(_ configuration: DecoderConfiguration) throws {
    className = configuration.className
    gateProj = try Linear(
      configuration.hiddenSize, configuration.intermediateSize, bias: configuration.mlpBias)
    upProj = try Linear(configuration.hiddenSize, configuration.intermediateSize, bias: configuration.mlpBias)
    downProj = try Linear(
      configuration.intermediateSize, configuration.hiddenSize, bias: configuration.mlpBias)
    actFn = try configuration.source.activation("hidden_act")
    projections = LinearGroup([gateProj, upProj])
  }

  init(sharing other: DecoderMLP) {
    className = other.className
    gateProj = Linear(sharing: other.gateProj)
    upProj = Linear(sharing: other.upProj)
    downProj = Linear(sharing: other.downProj)
    actFn = other.actFn
    projections = LinearGroup([gateProj, upProj], sharing: other.projections)
  }

  /// `[T, hidden]` → `[T, hidden]`.
  func callAsFunction(_ input: Tensor) throws -> Tensor {
    if let gateUp = try projections(input) { return try downProj(actFn.gate(fused: gateUp)) }
    return try downProj(actFn.gate(gateProj(input), upProj(input)))
  }

  public override var typeName: String { className + "MLP" }
}

/// One layer: attention and MLP, each behind a norm and beside a residual.
public final class DecoderLayer: Module {
  public let selfAttn: DecoderAttention
  public let mlp: DecoderMLP
  public let inputLayernorm: RMSNorm
  public let postAttentionLayernorm: RMSNorm

  private let className: String

  init(_ configuration: DecoderConfiguration, index: Int) throws {
    className = configuration.className
    selfAttn = try DecoderAttention(configuration, layerIndex: index)
    mlp = try DecoderMLP(configuration)
    inputLayernorm = try configuration.norm()
    postAttentionLayernorm = try configuration.norm()
  }

  /// The same layer at another place: its parameters, adapters of its own.
  init(sharing other: DecoderLayer, index: Int) {
    className = other.className
    selfAttn = DecoderAttention(sharing: other.selfAttn, layerIndex: index)
    mlp = DecoderMLP(sharing: other.mlp)
    inputLayernorm = other.inputLayernorm
    postAttentionLayernorm = other.postAttentionLayernorm
  }

  /// `[T, hidden]` → `[T, hidden]`, or the rows of it that are wanted.
  func callAsFunction(
    _ input: Tensor, rotary: RotaryTables, layout: RaggedLayout, cache: KeyValueCache?,
    attended: (any AttentionRows)?, wanted: WantedRows? = nil
  ) throws -> Tensor {
    if let cache, attended == nil, wanted == nil,
      let output = try step(input, rotary: rotary, layout: layout, cache: cache)
    {
      return output
    }
    var (residual, read) = (input, try inputLayernorm(input))
    let attention = try selfAttn(
      read, rotary: rotary, layout: layout, cache: cache, attended: attended, wanted: wanted)
    if let wanted {
      residual = try wanted.of(residual)
      if !selfAttn.adapters.isEmpty { read = try wanted.of(read) }
    }
    let sum = try residual + selfAttn.adapted(attention, input: read, residual: residual)
    let normed = try postAttentionLayernorm(sum)
    return try sum + mlp.adapted(mlp(normed), input: normed, residual: sum)
  }

  public override var typeName: String { className + "DecoderLayer" }
}

/// Embedding, layers, norm.
public final class DecoderModel: Module, Backbone, LayerArranging {
  public let embedTokens: Embedding
  public private(set) var layers: [DecoderLayer]
  public let norm: RMSNorm
  public let rotaryEmb: RotaryEmbedding

  public let configuration: ModelConfiguration
  public let family: ModelFamily
  public let contextLength: Int
  public let attentionShape: AttentionShape
  public var virtualTokens: VirtualTokens?
  public var usesGradientCheckpointing = false
  public var checkpointing = LayerCheckpointing()
  public private(set) var layerSources: [Int]

  let className: String

  init(_ decoder: DecoderConfiguration, family: ModelFamily) throws {
    className = decoder.className
    embedTokens = try Embedding(
      decoder.vocabularySize, decoder.hiddenSize,
      paddingIndex: decoder.source.json["pad_token_id"]?.intValue)
    layers = try (0..<decoder.layerCount).map { try DecoderLayer(decoder, index: $0) }
    norm = try decoder.norm()
    rotaryEmb = try decoder.source.rotaryEmbedding(
      dimension: decoder.headDimension, context: decoder.contextLength,
      name: className + "RotaryEmbedding")
    configuration = decoder.source
    self.family = family
    layerSources = Array(0..<decoder.layerCount)
    contextLength = decoder.contextLength
    attentionShape = AttentionShape(
      headCount: decoder.headCount, keyValueHeadCount: decoder.keyValueHeadCount,
      headDimension: decoder.headDimension)
  }

  public var inputEmbedding: Embedding { embedTokens }
  public var layerCount: Int { layers.count }
  public var sharesPrefixes: Bool { virtualTokens == nil && !rotaryEmb.dependsOnLength }

  public func fuseProjections() throws {
    for layer in layers {
      try layer.selfAttn.projections.fuse()
      try layer.mlp.projections.fuse()
    }
  }

  public func optimizeLayout() throws {
    for layer in layers {
      try layer.selfAttn.projections.stack()
      try layer.mlp.projections.stack()
    }
  }

  public func hiddenStates(_ input: ModelInput, tokens: Tensor?) throws -> Tensor {
    let cache = input.cache
    let rows = try LayerRows(
      input, embeddings: embedTokens(input.tokens), virtualTokens: virtualTokens,
      sharesPrefix: sharesPrefixes)
    let (layout, readLayout) = (rows.layout, rows.readLayout)
    let reached = readLayout.sequences.enumerated().map { $1.count + (cache?.lengths[$0] ?? 0) }
    let rotary = try rotaryEmb(layout, lengths: reached)

    let wanted = tokens.map(rows.of)
    var hidden = rows.embeddings
    for (index, layer) in layers.enumerated() {
      let attended = rows.attended(index)
      let wanted = index == layers.count - 1 ? wanted : nil
      if usesGradientCheckpointing, index < checkpointing.layerCount ?? layers.count, cache == nil {
        hidden = try checkpointed([hidden] + (attended?.tensors ?? []), keep: checkpointing.keep) { inputs in
          try layer(
            inputs[0], rotary: rotary, layout: layout, cache: nil,
            attended: attended?.with(Array(inputs[1...])), wanted: wanted)
        }
      } else {
        hidden = try layer(
          hidden, rotary: rotary, layout: layout, cache: cache, attended: attended, wanted: wanted)
      }
    }
    cache?.advance(readLayout)
    return try norm(wanted == nil ? rows.tokens(hidden) : hidden)
  }

  public func arrangement(of sources: [Int]) -> LayerArrangement {
    LayerArrangement(
      layers: sources.enumerated().map { DecoderLayer(sharing: layers[$1], index: $0) },
      sources: sources.map { layerSources[$0] })
  }

  public func exchangeLayers(_ other: LayerArrangement) -> LayerArrangement {
    guard let others = other.layers as? [DecoderLayer] else {
      preconditionFailure("an arrangement of another model")
    }
    let current = LayerArrangement(layers: layers, sources: layerSources)
    (layers, layerSources) = (others, other.sources)
    return current
  }

  public override var typeName: String { className + "Model" }
}

/// The decoder with its projection to the vocabulary.
public final class DecoderForCausalLM: Module, CausalLanguageModel {
  public let model: DecoderModel
  public let lmHead: Linear

  public init(_ decoder: DecoderConfiguration, family: ModelFamily) throws {
    model = try DecoderModel(decoder, family: family)
    lmHead =
      decoder.tiesEmbeddings
      ? Linear(weight: DenseWeight(model.embedTokens.weight))
      : try Linear(decoder.hiddenSize, decoder.vocabularySize, bias: false)
  }

  public var backbone: any Backbone { model }
  public var head: Linear { lmHead }

  public override var typeName: String { model.className + task.classSuffix }
}

/// The decoder with a projection to labels, which reads the state behind each sequence's last token: the only one that has
/// seen all of it.
public final class DecoderForSequenceClassification: Module, SequenceClassificationModel {
  public let model: DecoderModel
  public let score: Linear

  public let labels: ClassificationLabels
  public var hasNewHead = false

  public init(_ decoder: DecoderConfiguration, family: ModelFamily) throws {
    model = try DecoderModel(decoder, family: family)
    labels = try ClassificationLabels(decoder.source)
    score = try Linear(decoder.hiddenSize, labels.count, bias: false)
  }

  public var backbone: any Backbone { model }
  public var head: Linear { score }

  public func logits(_ input: ModelInput) throws -> Tensor {
    try score(hiddenStates(input, tokens: input.lastTokens()))  // [N, labels]
  }

  public override var typeName: String { model.className + task.classSuffix }
}

extension ModelFamily {
  /// A family whose models are decoders with one head or another.
  ///
  /// - Parameters:
  ///   - className: what Hugging Face's class names begin with.
  ///   - configure: reads the switches of `config.json`.
  static func decoder(
    modelType: String, className: String, gguf: GGUFArchitecture? = nil,
    configure: @escaping @Sendable (inout DecoderConfiguration, ModelConfiguration) throws -> Void
  ) -> ModelFamily {
    ModelFamily(modelType: modelType, className: className, gguf: gguf) { source, family, task in
      var decoder = try DecoderConfiguration(source, className: className)
      try configure(&decoder, source)
      return switch task {
      case .causalLM: try DecoderForCausalLM(decoder, family: family)
      case .sequenceClassification: try DecoderForSequenceClassification(decoder, family: family)
      }
    }
  }
}

/// The sizes and switches of a decoder; each family reads them from its `config.json`.
public struct DecoderConfiguration: Sendable {
  /// The configuration they come from.
  public var source: ModelConfiguration
  /// What Hugging Face's class names begin with: `Llama`, `Qwen2`.
  public var className: String
  public var vocabularySize: Int
  public var hiddenSize: Int
  public var intermediateSize: Int
  public var layerCount: Int
  public var headCount: Int
  public var keyValueHeadCount: Int
  public var headDimension: Int
  public var contextLength: Int
  public var normEpsilon: Double
  public var tiesEmbeddings: Bool
  public var queryKeyValueBias = false
  public var outputBias = false
  public var mlpBias = false
  /// Tokens that layers with a window may see, by layer; nil is all.
  public var slidingWindows: [Int?] = []

  /// What all families name alike.
  public init(_ source: ModelConfiguration, className: String) throws {
    self.source = source
    self.className = className
    vocabularySize = try source.integer("vocab_size")
    hiddenSize = try source.integer("hidden_size")
    intermediateSize = try source.integer("intermediate_size")
    // Layers are built before the weights are looked at; no model has a tenth of these.
    layerCount = try source.integer("num_hidden_layers", maximum: 1000)
    headCount = try source.integer("num_attention_heads")
    keyValueHeadCount = try source.integer("num_key_value_heads", default: headCount)
    headDimension = try source.integer("head_dim", default: hiddenSize / headCount)
    contextLength = try source.integer("max_position_embeddings", default: 2048)
    normEpsilon = try source.number("rms_norm_eps", default: 1e-6)
    tiesEmbeddings = try source.bool("tie_word_embeddings", default: false)

    guard normEpsilon >= 0 else {
      throw ModelError("`rms_norm_eps` in \(source.source) is \(normEpsilon); it cannot be below 0.")
    }
    guard source.json["head_dim"]?.isNull == false || hiddenSize % headCount == 0 else {
      throw ModelError(
        "`num_attention_heads` (\(headCount)) in \(source.source) does not divide `hidden_size` (\(hiddenSize)), and "
          + "`head_dim` is not given.")
    }
    guard headCount % keyValueHeadCount == 0 else {
      throw ModelError(
        "`num_key_value_heads` (\(keyValueHeadCount)) in \(source.source) does not divide `num_attention_heads` "
          + "(\(headCount)).")
    }
  }

  func norm() throws -> RMSNorm {
    try RMSNorm(hiddenSize, epsilon: normEpsilon, name: className + "RMSNorm")
  }

  func slidingWindow(layer: Int) -> Int? {
    slidingWindows.isEmpty ? nil : slidingWindows[layer]
  }
}
