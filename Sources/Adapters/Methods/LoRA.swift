import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// LoRA: a low-rank change beside a frozen weight, y = W x + s · B A x (Hu et al. 2021, arXiv:2106.09685).
///
/// A `[r, in]` and B `[out, r]` are trained in fp32; B starts at zero, so that training starts at the base model. The
/// scale s is alpha / r, or alpha / √r with rank stabilisation (Kalajdzievski 2023, arXiv:2312.03732).
public struct LoRAConfig: AdapterConfiguration, Hashable {
  /// How A and B start.
  public enum Initialization: Sendable, Hashable {
    /// A uniform as PyTorch's linear layers, B zero: PEFT's `true`.
    case kaiming
    /// A normal with deviation 1 / r, B zero: `"gaussian"`.
    case gaussian
    /// Both random, so that the adapter does something at once: `false`. For tests.
    case random
  }

  /// Which biases are trained with the adapter.
  public enum Bias: String, Sendable, Hashable {
    case none
    /// Every bias of the model.
    case all
    /// Those of the layers that carry LoRA.
    case loraOnly = "lora_only"
  }

  /// The rank.
  public var r: Int
  public var loraAlpha: Double
  /// The probability with which features of the input are dropped before A, in training.
  public var loraDropout: Double
  public var targets: TargetModules
  public var bias: Bias
  public var useRSLoRA: Bool
  public var initLoRAWeights: Initialization
  /// Other ranks for modules whose path ends in a match of the key, the first that matches.
  public var rankPattern: OrderedDictionary<String, Double>
  /// Other alphas, likewise.
  public var alphaPattern: OrderedDictionary<String, Double>
  /// Whether B has a bias.
  public var loraBias: Bool
  public var common: CommonAdapterSettings

  public init(
    r: Int = 8, loraAlpha: Double = 8, loraDropout: Double = 0, targetModules: ModuleSelection? = nil,
    excludeModules: ModuleSelection? = nil, bias: Bias = .none, useRSLoRA: Bool = false,
    modulesToSave: [String]? = nil, initLoRAWeights: Initialization = .kaiming,
    layersToTransform: [Int]? = nil,
    layersPattern: [String]? = nil, rankPattern: OrderedDictionary<String, Double> = [:],
    alphaPattern: OrderedDictionary<String, Double> = [:], loraBias: Bool = false,
    taskType: String? = "CAUSAL_LM"
  ) {
    self.r = r
    self.loraAlpha = loraAlpha
    self.loraDropout = loraDropout
    targets = TargetModules(
      targetModules: targetModules, excludeModules: excludeModules, layersToTransform: layersToTransform,
      layersPattern: layersPattern)
    self.bias = bias
    self.useRSLoRA = useRSLoRA
    self.initLoRAWeights = initLoRAWeights
    self.rankPattern = rankPattern
    self.alphaPattern = alphaPattern
    self.loraBias = loraBias
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  /// Beyond the width of any layer; a larger one is a mistake that would take all memory.
  static let maximumRank = 65_536

  public static let method = AdapterMethod(
    peftType: "LORA",
    summary:
      "Low-rank adaptation: a trained product of two thin matrices beside each target layer (arXiv 2106.09685).",
    options: [
      .init("r", .integer, default: 8, "Rank of the update."),
      .init("lora_alpha", .number, default: 8, "Scale of the update: it is multiplied by `lora_alpha / r`."),
      .init(
        "lora_dropout", .number, default: 0.0, "Probability of dropping an input of the update in training."),
      .init(
        "target_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Layers to adapt: names or endings of paths, a regular expression of whole paths, or `all-linear`. `null` is "
          + "the usual choice for the model's family."),
      .init(
        "exclude_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Layers to leave out although `target_modules` names them."),
      .init(
        "layers_to_transform", .optional(.any([.integer, .list(.integer)])), default: nil,
        "Indices of the blocks to adapt; `null` is all."),
      .init(
        "layers_pattern", .optional(.any([.string, .list(.string)])), default: nil,
        "Name of the list of blocks in module paths, if it is not one that Graft knows."),
      .init(
        "rank_pattern", .mapping(.integer), default: [:], "Ranks of single layers, by name or expression."),
      .init("alpha_pattern", .mapping(.number), default: [:], "Values of `lora_alpha` for single layers."),
      .init("bias", .choice(["none", "all", "lora_only"]), default: "none", "Which biases are trained too."),
      .init(
        "lora_bias", .boolean, default: false,
        "Give B a bias that is trained; it can be merged only into layers that have one."),
      .init("use_rslora", .boolean, default: false, "Scale by `lora_alpha / √r` (arXiv 2312.03732)."),
      .init(
        "init_lora_weights", .any([.boolean, .choice(["gaussian"])]), default: true,
        "`true`: A is Kaiming-uniform and B is 0. `gaussian`: A is normal and B is 0. `false`: both are random."
      ),
      .init(
        "fan_in_fan_out", .boolean, default: false,
        "For weights that are stored as [in, out], GPT-2's; `true` is refused, as Graft has no such family yet."
      ),
    ] + CommonAdapterSettings.options,
    // Options of other kinds of LoRA that say nothing by themselves.
    inertFields: ["megatron_core", "qalora_group_size"]
  ) { try LoRAConfig($0) }

  public init(_ fields: AdapterFields) throws {
    self.init(
      r: try fields.integer("r", default: 8, maximum: LoRAConfig.maximumRank),
      loraAlpha: try fields.number("lora_alpha", default: 8),
      loraDropout: try fields.number("lora_dropout", default: 0))
    targets = TargetModules(
      targetModules: try fields.modules("target_modules"),
      excludeModules: try fields.modules("exclude_modules"),
      layersToTransform: try fields.integers("layers_to_transform"),
      layersPattern: try fields.strings("layers_pattern"))
    useRSLoRA = try fields.bool("use_rslora", default: false)
    rankPattern = try fields.numbers("rank_pattern")
    alphaPattern = try fields.numbers("alpha_pattern")
    loraBias = try fields.bool("lora_bias", default: false)
    common = try CommonAdapterSettings(fields)

    let bias = try fields.string("bias") ?? "none"
    guard let known = Bias(rawValue: bias) else {
      throw fields.invalid("bias", remedy: "write none, all or lora_only")
    }
    self.bias = known
    switch fields.values["init_lora_weights"] {
    case nil, .null, .bool(true): initLoRAWeights = .kaiming
    case .bool(false): initLoRAWeights = .random
    case .string(let name) where name.lowercased() == "gaussian": initLoRAWeights = .gaussian
    case .string(let name) where name.lowercased() == "true": initLoRAWeights = .kaiming
    case _?:
      throw fields.invalid("init_lora_weights", remedy: "write true, false or \"gaussian\"")
    }
    guard (0..<1).contains(loraDropout) else {
      throw fields.invalid("lora_dropout", remedy: "write a probability from 0 to below 1")
    }
    let ranks = 1...Double(LoRAConfig.maximumRank)
    guard rankPattern.values.allSatisfy({ ranks.contains($0) && $0 == $0.rounded() }) else {
      throw fields.invalid(
        "rank_pattern", remedy: "write whole ranks from 1 to \(LoRAConfig.maximumRank)")
    }
    if try fields.bool("fan_in_fan_out", default: false) {
      throw fields.invalid(
        "fan_in_fan_out",
        remedy: "write false: it is for models whose weights are stored transposed (GPT-2), which Graft does "
          + "not have yet")
    }
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    func list(_ strings: [String]?) -> JSONValue { strings.map { .array($0.map(JSONValue.string)) } ?? .null }
    func object(_ numbers: OrderedDictionary<String, Double>) -> JSONValue {
      .object(numbers.mapValues(\.asJSON))
    }
    return [
      "r": .integer(r), "lora_alpha": loraAlpha.asJSON, "lora_dropout": .number(loraDropout),
      "target_modules": targets.targetModules?.asJSON ?? .null,
      "exclude_modules": targets.excludeModules?.asJSON ?? .null,
      "layers_to_transform": targets.layersToTransform.map { .array($0.map(JSONValue.integer)) } ?? .null,
      "layers_pattern": list(targets.layersPattern), "bias": .string(bias.rawValue),
      "use_rslora": .bool(useRSLoRA),
      "init_lora_weights": initLoRAWeights.asJSON, "rank_pattern": object(rankPattern),
      "alpha_pattern": object(alphaPattern), "lora_bias": .bool(loraBias), "fan_in_fan_out": false,
      "use_dora": false, "megatron_config": .null, "megatron_core": "megatron.core", "loftq_config": [:],
      "layer_replication": .null, "trainable_token_indices": .null, "target_parameters": .null,
      "use_qalora": false, "qalora_group_size": 16, "ensure_weight_tying": false,
    ]
  }

  /// Default `target_modules` by model type, PEFT's table.
  static let defaultTargets: [String: [String]] = [
    "llama": ["q_proj", "v_proj"], "qwen2": ["q_proj", "v_proj"], "qwen3": ["q_proj", "v_proj"],
    "mistral": ["q_proj", "v_proj"], "mixtral": ["q_proj", "v_proj"], "gemma": ["q_proj", "v_proj"],
    "gemma2": ["q_proj", "v_proj"], "gemma3_text": ["q_proj", "v_proj"],
    "phi": ["q_proj", "v_proj", "fc1", "fc2"], "gpt2": ["c_attn"], "bert": ["query", "value"],
    "roberta": ["query", "value"], "t5": ["q", "v"],
  ]

  /// Rank and scale of the module at `path`.
  func rankAndScale(_ path: String) throws -> (rank: Int, scale: Double) {
    func pattern(_ patterns: OrderedDictionary<String, Double>) throws -> Double? {
      try patterns.first { try RegularExpression(#"(.*\.)?(\#($0.key))"#).matchesWhole(path) }?.value
    }
    let rank = try pattern(rankPattern).map { Int($0) } ?? r
    let alpha = try pattern(alphaPattern) ?? loraAlpha
    return (rank, alpha / (useRSLoRA ? Double(rank).squareRoot() : Double(rank)))
  }
}

// MARK: - The adapter

extension LoRAConfig {
  public func makeAdapter(for model: any CausalLanguageModel) throws -> any Adapter {
    let chosen = try targets.resolve(
      in: model, defaults: LoRAConfig.defaultTargets, modulesToSave: common.modulesToSave)
    var linears: [LinearPart] = []
    var embeddings: [EmbeddingPart] = []
    var companions: [(key: String, tensor: Tensor)] = []
    for (path, module) in chosen {
      let (rank, scale) = try rankAndScale(path)
      switch module {
      case let layer as Linear:
        let change = try LoRALinear(layer, rank: rank, scale: scale, self, device: model.device)
        linears.append(LinearPart(path: path, layer: layer, change: change))
        if layer === model.outputEmbedding {
          companions.append(("\(path).base_layer.weight", try layer.weight.dense()))
        }
      case let table as Embedding:
        let change = try LoRAEmbedding(table, rank: rank, scale: scale, self)
        embeddings.append(EmbeddingPart(path: path, table: table, change: change))
        companions.append(("\(path).base_layer.weight", table.weight.value))
      default:
        throw AdapterError(
          "`target_modules` matches \(path), a \(module.typeName); LoRA works on linear layers and embeddings. Name "
            + "modules within it.")
      }
    }
    let biases = try biasReplacements(in: model, beside: Set(linears.map(\.path)))
    return ComposedAdapter(
      targets: chosen.map(\.path), parts: linears + embeddings + biases, companions: companions)
  }

  private func biasReplacements(in model: any CausalLanguageModel, beside targeted: Set<String>) throws
    -> [ParameterReplacement]
  {
    guard bias != .none else { return [] }
    return try model.namedModules().compactMap { path, module in
      guard let layer = module as? Linear, let parameter = layer.bias else { return nil }
      if targeted.contains(path) {
        return try ParameterReplacement(key: "\(path).base_layer.bias", place: .parameter(parameter))
      }
      return bias == .all ? try ParameterReplacement(key: "\(path).bias", place: .parameter(parameter)) : nil
    }
  }
}

/// The pair A, B beside one linear layer.
final class LoRALinear: LinearChange {
  let a: Parameter  // [r, in]
  let b: Parameter  // [out, r]
  let bias: Parameter?  // [out]
  let scale: Double
  private let loraDropout: Double
  var isTraining = false

  init(_ layer: Linear, rank: Int, scale: Double, _ configuration: LoRAConfig, device: Device) throws {
    self.scale = scale
    loraDropout = configuration.loraDropout
    let bound = 1 / Double(layer.inFeatures).squareRoot()
    let shape = [rank, layer.inFeatures]
    a = Parameter(
      try configuration.initLoRAWeights == .gaussian
        ? .normal(shape, standardDeviation: 1 / Double(rank), device: device)
        : .uniform(shape, low: -bound, high: bound, device: device))
    let outBound = 1 / Double(rank).squareRoot()
    b = Parameter(
      try configuration.initLoRAWeights == .random
        ? .uniform([layer.outFeatures, rank], low: -outBound, high: outBound, device: device)
        : .zeros([layer.outFeatures, rank], device: device))
    bias = configuration.loraBias ? Parameter(try .zeros([layer.outFeatures], device: device)) : nil
    for parameter in [a, b] + (bias.map { [$0] } ?? []) { try parameter.setTrainable(true) }
  }

  var parameters: [(name: String, parameter: Parameter)] {
    [("lora_A.weight", a), ("lora_B.weight", b)] + (bias.map { [("lora_B.bias", $0)] } ?? [])
  }

  var printed: PrintedLayer {
    let (rank, inFeatures) = (a.shape[0], a.shape[1])
    return .lora(
      "lora.Linear", dropout: loraDropout,
      a: .linear(inFeatures: inFeatures, outFeatures: rank, bias: false),
      b: .linear(inFeatures: rank, outFeatures: b.shape[0], bias: bias != nil))
  }

  /// In effect now.
  private var dropout: Double { isTraining ? loraDropout : 0 }

  func forward(
    _ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor
  ) throws -> Tensor {
    let dropped = try dropout > 0 ? input.dropout(dropout) : input
    let low = try dropped.linear(a.value(like: input))  // [T, r]
    let high = try low.linear(b.value(like: input), bias: bias?.value(like: input))
    return try next(input) + high * scale
  }

  var lowRankUpdate: LowRankUpdate? {
    bias == nil ? LowRankUpdate(a: a.value, b: b.value, scale: scale, dropout: dropout) : nil
  }

  /// W + s B A.
  func merged(_ weight: Tensor) throws -> Tensor { try weight + b.value.matmul(a.value) * scale }

  func merged(bias current: Tensor?) throws -> Tensor? {
    guard let bias else { return current }
    guard let current else {
      throw AdapterError(
        "the layer has no bias that `lora_bias` could be merged into. Use the adapter unmerged, or train without lora_bias."
      )
    }
    return try current + bias.value * scale
  }
}

/// The pair A, B behind one embedding.
final class LoRAEmbedding: EmbeddingChange {
  let a: Parameter  // [r, vocabulary]
  let b: Parameter  // [width, r]
  let scale: Double
  private let loraDropout: Double  // printed, as PEFT does not apply it either

  init(_ table: Embedding, rank: Int, scale: Double, _ configuration: LoRAConfig) throws {
    self.scale = scale
    loraDropout = configuration.loraDropout
    let device = table.weight.value.device
    let (count, width) = (table.weight.shape[0], table.weight.shape[1])
    // The other way round than at a linear layer: rows of A are looked up, so it is A that starts at zero.
    a = Parameter(
      try configuration.initLoRAWeights == .random
        ? .normal([rank, count], device: device) : .zeros([rank, count], device: device))
    b = Parameter(try .normal([width, rank], device: device))
    for parameter in [a, b] { try parameter.setTrainable(true) }
  }

  var parameters: [(name: String, parameter: Parameter)] {
    [("lora_embedding_A", a), ("lora_embedding_B", b)]
  }

  var printed: PrintedLayer {
    .lora("lora.Embedding", dropout: loraDropout, embeddingA: a.shape, embeddingB: b.shape)
  }

  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor {
    let rows = try a.value.transposed().embedding(tokens)  // [T, r]
    let change = try rows.linear(b.value) * scale  // [T, width]
    return try output + change.to(output.dtype)
  }

  /// E + s (B A)ᵀ.
  func merged(_ table: Tensor) throws -> Tensor {
    try table + b.value.matmul(a.value).transposed() * scale
  }
}

extension PrintedLayer {
  /// LoRA's layers have the places of all its kinds, whichever are in use.
  static func lora(
    _ name: String, dropout: Double, a: PrintedModule? = nil, b: PrintedModule? = nil,
    embeddingA: [Int]? = nil,
    embeddingB: [Int]? = nil, magnitude: PrintedModule? = nil
  ) -> PrintedLayer {
    PrintedLayer(
      name,
      slots: [
        Slot("lora_dropout", .module(.dropout(dropout))), Slot("lora_A", .module(a)),
        Slot("lora_B", .module(b)), Slot("lora_embedding_A", .parameter(shape: embeddingA)),
        Slot("lora_embedding_B", .parameter(shape: embeddingB)),
        Slot("lora_magnitude_vector", .module(magnitude)),
      ])
  }
}

extension ModuleSelection {
  fileprivate var asJSON: JSONValue {
    switch self {
    case .pattern(let pattern): .string(pattern)
    case .names(let names): .array(names.map(JSONValue.string))
    case .allLinear: "all-linear"
    }
  }
}

extension LoRAConfig.Initialization {
  fileprivate var asJSON: JSONValue {
    switch self {
    case .kaiming: true
    case .gaussian: "gaussian"
    case .random: false
    }
  }
}

extension Double {
  /// Whole numbers without a fraction, as PEFT's users write `r` and `lora_alpha`.
  fileprivate var asJSON: JSONValue {
    self == rounded() && abs(self) < 1e15 ? .integer(Int(self)) : .number(self)
  }
}
