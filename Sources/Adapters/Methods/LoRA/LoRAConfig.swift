import JSON
import OrderedCollections

/// LoRA: a low-rank change beside a frozen weight, y = W x + s · B A x (Hu et al. 2021, arXiv:2106.09685).
///
/// A `[r, in]` and B `[out, r]` are trained in fp32; B starts at zero, so that training starts at the base model. The
/// scale s is alpha / r, or alpha / √r with rank stabilisation (Kalajdzievski 2023, arXiv:2312.03732).
public struct LoRAConfig: AdapterConfiguration, Hashable {
  public typealias Initialization = LoRAInitialization

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
  /// Whether the magnitudes of the weight's rows are trained apart from their directions, see ``DoRALinear``.
  public var useDoRA: Bool
  public var initLoRAWeights: LoRAInitialization
  /// EVA's options; nil is its defaults.
  public var evaConfig: EVAConfig?
  /// LoftQ's options; nil is its defaults. PEFT leaves them behind in adapters of other starts, where they say nothing.
  public var loftQConfig: LoftQConfig?
  /// Other ranks for modules whose path ends in a match of the key, the first that matches.
  public var rankPattern: OrderedDictionary<String, Double>
  /// Other alphas, likewise.
  public var alphaPattern: OrderedDictionary<String, Double>
  /// Whether B has a bias.
  public var loraBias: Bool
  /// Tokens whose vectors are trained beside everything else.
  public var trainableTokenIndices: TrainableTokens?
  /// The model's layers anew, as ranges of the original's: `[[0, 4], [2, 5]]`; the copies share their weights.
  public var layerReplication: [Range<Int>]?
  public var common: CommonAdapterSettings

  public init(
    r: Int = 8, loraAlpha: Double = 8, loraDropout: Double = 0, targetModules: ModuleSelection? = nil,
    excludeModules: ModuleSelection? = nil, bias: Bias = .none, useRSLoRA: Bool = false,
    useDoRA: Bool = false,
    modulesToSave: [String]? = nil, initLoRAWeights: LoRAInitialization = .kaiming,
    evaConfig: EVAConfig? = nil, loftQConfig: LoftQConfig? = nil,
    layersToTransform: [Int]? = nil, layersPattern: [String]? = nil,
    rankPattern: OrderedDictionary<String, Double> = [:],
    alphaPattern: OrderedDictionary<String, Double> = [:], loraBias: Bool = false,
    trainableTokenIndices: TrainableTokens? = nil, layerReplication: [Range<Int>]? = nil,
    ensureWeightTying: Bool = false,
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
    self.useDoRA = useDoRA
    self.initLoRAWeights = initLoRAWeights
    self.evaConfig = evaConfig
    self.loftQConfig = loftQConfig
    self.rankPattern = rankPattern
    self.alphaPattern = alphaPattern
    self.loraBias = loraBias
    self.trainableTokenIndices = trainableTokenIndices
    self.layerReplication = layerReplication
    common = CommonAdapterSettings(
      taskType: taskType, modulesToSave: modulesToSave, ensureWeightTying: ensureWeightTying)
  }

  /// Beyond the width of any layer; a larger one is a mistake that would take all memory.
  static let maximumRank = 65_536

  public init(_ fields: AdapterFields) throws {
    self.init(
      r: try fields.integer("r", default: 8, maximum: LoRAConfig.maximumRank),
      loraAlpha: try fields.number("lora_alpha", default: 8),
      loraDropout: try fields.number("lora_dropout", default: 0),
      useRSLoRA: try fields.bool("use_rslora", default: false),
      useDoRA: try fields.bool("use_dora", default: false),
      initLoRAWeights: try LoRAInitialization(fields),
      evaConfig: try EVAConfig(fields),
      loftQConfig: try LoftQConfig(fields),
      rankPattern: try fields.numbers("rank_pattern"),
      alphaPattern: try fields.numbers("alpha_pattern"),
      loraBias: try fields.bool("lora_bias", default: false),
      trainableTokenIndices: try TrainableTokens(fields),
      layerReplication: try LoRAConfig.layerReplication(fields))
    targets = TargetModules(
      targetModules: try fields.modules("target_modules"),
      excludeModules: try fields.modules("exclude_modules"),
      layersToTransform: try fields.integers("layers_to_transform"),
      layersPattern: try fields.strings("layers_pattern"))
    common = try CommonAdapterSettings(fields)
    common.ensureWeightTying = try fields.bool("ensure_weight_tying", default: false)

    let bias = try fields.string("bias") ?? "none"
    guard let known = Bias(rawValue: bias) else {
      throw fields.invalid("bias", remedy: "write none, all or lora_only")
    }
    self.bias = known
    guard (0..<1).contains(loraDropout) else {
      throw fields.invalid("lora_dropout", remedy: "write a probability from 0 to below 1")
    }
    let ranks = 1...Double(LoRAConfig.maximumRank)
    guard rankPattern.values.allSatisfy({ ranks.contains($0) && $0 == $0.rounded() }) else {
      throw fields.invalid(
        "rank_pattern", remedy: "write whole ranks from 1 to \(LoRAConfig.maximumRank)")
    }
    guard fields.values["target_parameters"]?.asksForNothing ?? true else {
      throw fields.invalid("target_parameters", remedy: "leave it out: \(LoRAConfig.targetParametersReason)")
    }
    if try fields.bool("fan_in_fan_out", default: false) {
      throw fields.invalid(
        "fan_in_fan_out",
        remedy: "write false: it is for models whose weights are stored transposed (GPT-2), which Graft does "
          + "not have yet")
    }
  }

  /// Why there are no `target_parameters`.
  package static let targetParametersReason =
    "it reaches matrices that belong to no linear layer, such as the experts of a mixture, and Graft's families have none; "
    + "`target_modules` reaches all that they have"

  /// What the options exclude of each other, however they were given.
  func validate() throws {
    if loraBias, useDoRA {
      throw AdapterError(
        "`lora_bias` cannot be used with `use_dora`: the magnitudes have no place for it. Set one to false.")
    }
    if loraBias, initLoRAWeights != .kaiming, initLoRAWeights != .random {
      throw AdapterError(
        "`lora_bias` is for `init_lora_weights: true`, not \(initLoRAWeights.value.serialized()). Set one to its default."
      )
    }
    if let loftQConfig, loftQConfig.iterations < 1 {
      throw AdapterError("`loftq_iter` is \(loftQConfig.iterations); write 1 or more.")
    }
    if evaConfig != nil, !initLoRAWeights.needsData {
      throw AdapterError(
        "`eva_config` says nothing with `init_lora_weights: \(initLoRAWeights.value.serialized())`; write `eva`, or remove it."
      )
    }
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    func list(_ strings: [String]?) -> JSONValue { strings.map { .array($0.map(JSONValue.string)) } ?? .null }
    func object(_ numbers: OrderedDictionary<String, Double>) -> JSONValue {
      .object(numbers.mapValues(\.asJSON))
    }
    let loftQ = loftQConfig ?? (initLoRAWeights == .loftQ ? LoftQConfig() : nil)
    let eva = evaConfig ?? (initLoRAWeights.needsData ? EVAConfig() : nil)
    return [
      "r": .integer(r), "lora_alpha": loraAlpha.asJSON, "lora_dropout": .number(loraDropout),
      "target_modules": targets.targetModules?.asJSON ?? .null,
      "exclude_modules": targets.excludeModules?.asJSON ?? .null,
      "layers_to_transform": targets.layersToTransform.map { .array($0.map(JSONValue.integer)) } ?? .null,
      "layers_pattern": list(targets.layersPattern), "bias": .string(bias.rawValue),
      "use_rslora": .bool(useRSLoRA), "use_dora": .bool(useDoRA),
      "init_lora_weights": initLoRAWeights.value, "eva_config": eva?.asJSON ?? .null,
      "rank_pattern": object(rankPattern), "alpha_pattern": object(alphaPattern),
      "lora_bias": .bool(loraBias), "fan_in_fan_out": false,
      "layer_replication": layerReplication.map { ranges in
        .array(ranges.map { [.integer($0.lowerBound), .integer($0.upperBound)] })
      } ?? .null,
      "trainable_token_indices": trainableTokenIndices?.asJSON ?? .null,
      "ensure_weight_tying": .bool(common.ensureWeightTying),
      "megatron_config": .null, "megatron_core": "megatron.core", "loftq_config": loftQ?.asJSON ?? [:],
      "target_parameters": .null, "use_qalora": false, "qalora_group_size": 16,
    ]
  }

  /// Rank and scale of the module at `path`.
  func rankAndScale(_ path: String) throws -> (rank: Int, scale: Double) {
    let rank = try rank(path)
    return (rank, try alpha(path) / (useRSLoRA ? Double(rank).squareRoot() : Double(rank)))
  }

  func rank(_ path: String) throws -> Int { try pattern(rankPattern, path).map { Int($0) } ?? r }
  func alpha(_ path: String) throws -> Double { try pattern(alphaPattern, path) ?? loraAlpha }

  private func pattern(_ patterns: OrderedDictionary<String, Double>, _ path: String) throws -> Double? {
    try patterns.first { try RegularExpression(#"(.*\.)?(\#($0.key))"#).matchesWhole(path) }?.value
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

extension Double {
  /// Whole numbers without a fraction, as PEFT's users write `r` and `lora_alpha`.
  fileprivate var asJSON: JSONValue {
    self == rounded() && abs(self) < 1e15 ? .integer(Int(self)) : .number(self)
  }
}
