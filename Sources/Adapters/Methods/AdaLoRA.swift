import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// AdaLoRA: low-rank changes in the form of a singular value decomposition, whose triplets are taken from where they matter
/// little while training runs (Zhang et al. 2023, arXiv:2303.10512).
///
/// y = W x + alpha / r₀ · B diag(E) A x with A `[r, in]`, E `[r, 1]`, B `[out, r]`. ``RankAllocator`` says which triplets live;
/// a term of the loss keeps A's rows and B's columns nearly orthogonal. The trainer runs the allocation by itself.
public struct AdaLoRAConfig: AdapterConfiguration, Hashable {
  /// Triplets of every layer at the start.
  public var initR: Int
  /// Triplets of a layer in the end, on average.
  public var targetR: Int
  /// Steps before ranks begin to fall.
  public var tinit: Int
  /// Steps at the end in which they stay.
  public var tfinal: Int
  /// Steps from one allocation to the next.
  public var deltaT: Int
  /// How long sensitivities are remembered.
  public var beta1: Double
  /// How long their uncertainties are.
  public var beta2: Double
  public var orthRegWeight: Double
  /// Steps of the run; nil takes the trainer's.
  public var totalStep: Int?
  public var loraAlpha: Double
  /// The probability with which features of the input are dropped before A, in training.
  public var loraDropout: Double
  public var targets: TargetModules
  public var bias: TrainedBiases
  /// Whether E starts at zero, so that training starts at the base model.
  public var initLoRAWeights: Bool
  /// Which triplets live, by the layer's path; nil before the first allocation.
  public var rankPattern: OrderedDictionary<String, [Bool]>?
  public var common: CommonAdapterSettings

  public init(
    targetR: Int = 8, initR: Int = 12, tinit: Int = 0, tfinal: Int = 0, deltaT: Int = 1, beta1: Double = 0.85,
    beta2: Double = 0.85, orthRegWeight: Double = 0.5, totalStep: Int? = nil, loraAlpha: Double = 8,
    loraDropout: Double = 0, targetModules: ModuleSelection? = nil, excludeModules: ModuleSelection? = nil,
    bias: TrainedBiases = .none, modulesToSave: [String]? = nil, initLoRAWeights: Bool = true,
    layersToTransform: [Int]? = nil, layersPattern: [String]? = nil, taskType: String? = "CAUSAL_LM"
  ) {
    self.targetR = targetR
    self.initR = initR
    self.tinit = tinit
    self.tfinal = tfinal
    self.deltaT = deltaT
    self.beta1 = beta1
    self.beta2 = beta2
    self.orthRegWeight = orthRegWeight
    self.totalStep = totalStep
    self.loraAlpha = loraAlpha
    self.loraDropout = loraDropout
    targets = TargetModules(
      targetModules: targetModules, excludeModules: excludeModules, layersToTransform: layersToTransform,
      layersPattern: layersPattern)
    self.bias = bias
    self.initLoRAWeights = initLoRAWeights
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let obstacleToCombining = "whose triplets have directions of their own in each adapter"

  public static let tunerName = "AdaLoraModel"

  public static let method = AdapterMethod(
    peftType: "ADALORA",
    summary:
      "AdaLoRA: low-rank changes whose ranks move during training to the layers where they matter (arXiv 2303.10512).",
    options: [
      .init("target_r", .integer, default: 8, "Rank of a layer in the end, on average."),
      .init("init_r", .integer, default: 12, "Rank of every layer at the start."),
      .init("tinit", .integer, default: 0, "Steps before ranks begin to fall."),
      .init("tfinal", .integer, default: 0, "Steps at the end in which they stay."),
      .init("deltaT", .integer, default: 1, "Steps from one allocation to the next."),
      .init("beta1", .number, default: 0.85, "How long sensitivities are remembered, from 0 to 1."),
      .init("beta2", .number, default: 0.85, "How long their uncertainties are remembered, from 0 to 1."),
      .init(
        "orth_reg_weight", .number, default: 0.5, "Weight of the loss term that keeps the factors orthogonal."
      ),
      .init(
        "total_step", .optional(.integer), default: nil,
        "Optimizer steps of the schedule; `null` takes those of the run."),
      .init(
        "lora_alpha", .number, default: 8, "Scale of the update: it is multiplied by `lora_alpha / init_r`."),
      .init(
        "lora_dropout", .number, default: 0.0, "Probability of dropping an input of the update in training."),
    ] + TargetModules.options() + [
      TrainedBiases.option(method: "lora"),
      .init(
        "init_lora_weights", .boolean, default: true,
        "Start the singular values at zero, so that training starts at the base model; `false` starts them at random."
      ),
      .fanInFanOut,
    ] + CommonAdapterSettings.options,
    // What training found, and options of LoRA that say nothing here.
    inertFields: ["rank_pattern", "r", "megatron_core", "qalora_group_size"]
  ) { try AdaLoRAConfig($0) }

  public static let learnedFields: Set<String> = ["rank_pattern"]

  public init(_ fields: AdapterFields) throws {
    let ranks = LoRAConfig.maximumRank
    targetR = try fields.integer("target_r", default: 8, maximum: ranks)
    initR = try fields.integer("init_r", default: 12, maximum: ranks)
    guard targetR <= initR else {
      throw fields.invalid("target_r", remedy: "write at most `init_r`, which is \(initR): ranks only fall")
    }
    tinit = try fields.integer("tinit", default: 0, minimum: 0)
    tfinal = try fields.integer("tfinal", default: 0, minimum: 0)
    deltaT = try fields.integer("deltaT", default: 1)
    beta1 = try fields.number("beta1", default: 0.85)
    beta2 = try fields.number("beta2", default: 0.85)
    orthRegWeight = try fields.number("orth_reg_weight", default: 0.5)
    totalStep =
      fields.values["total_step"].map(\.isNull) ?? true ? nil : try fields.integer("total_step", default: 1)
    loraAlpha = try fields.number("lora_alpha", default: 8)
    loraDropout = try fields.probability("lora_dropout")
    targets = try TargetModules(fields)
    bias = try TrainedBiases(fields, method: "lora")
    initLoRAWeights = try fields.bool("init_lora_weights", default: true)
    rankPattern = try AdaLoRAConfig.rankPattern(fields)
    common = try CommonAdapterSettings(fields)

    for (key, value) in [("beta1", beta1), ("beta2", beta2)] where !(value > 0 && value < 1) {
      throw fields.invalid(key, remedy: "write a number above 0 and below 1")
    }
    guard orthRegWeight >= 0 else { throw fields.invalid("orth_reg_weight", remedy: "write 0 or more") }
    guard loraAlpha > 0 else { throw fields.invalid("lora_alpha", remedy: "write a number above 0") }
    if let totalStep, tinit >= totalStep - tfinal {
      throw fields.invalid("total_step", remedy: AdaLoRAConfig.tooShort(tinit, tfinal))
    }
    try fields.refuseFanInFanOut()
  }

  private static func tooShort(_ tinit: Int, _ tfinal: Int) -> String {
    "take more steps than `tinit` \(tinit) and `tfinal` \(tfinal) together, so that some are left in which ranks fall, or "
      + "lower those"
  }

  /// Keys are PEFT's: the path of a layer's singular values.
  private static func rankPattern(_ fields: AdapterFields) throws -> OrderedDictionary<String, [Bool]>? {
    guard let stored = fields.values["rank_pattern"], !stored.asksForNothing else { return nil }
    var pattern: OrderedDictionary<String, [Bool]> = [:]
    for (key, value) in stored.objectValue ?? [:] {
      let kept = value.arrayValue?.compactMap(\.boolValue)
      guard key.hasSuffix(".lora_E"), let kept, kept.count == value.arrayValue?.count else {
        throw fields.invalid("rank_pattern", remedy: "leave it as PEFT or Graft wrote it, or remove it")
      }
      pattern[String(key.dropLast(".lora_E".count))] = kept
    }
    guard !pattern.isEmpty else {
      throw fields.invalid("rank_pattern", remedy: "leave it as PEFT or Graft wrote it, or remove it")
    }
    return pattern
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    let pattern = rankPattern.map { pattern in
      JSONValue.object(
        .init(
          uniqueKeysWithValues: pattern.map {
            ("\($0).lora_E", .array($1.map(JSONValue.bool)))
          }))
    }
    return targets.fields().merging([
      "target_r": .integer(targetR), "init_r": .integer(initR), "tinit": .integer(tinit),
      "tfinal": .integer(tfinal), "deltaT": .integer(deltaT), "beta1": .number(beta1),
      "beta2": .number(beta2), "orth_reg_weight": .number(orthRegWeight),
      // PEFT loads no adapter without it: the shortest schedule, for one that was never trained.
      "total_step": .integer(totalStep ?? tinit + tfinal + 1), "lora_alpha": loraAlpha.json,
      "lora_dropout": .number(loraDropout), "bias": .string(bias.name(method: "lora")),
      "init_lora_weights": .bool(initLoRAWeights), "rank_pattern": pattern ?? .null, "fan_in_fan_out": false,
      // LoRA's, which PEFT's class inherits.
      "r": 8, "alpha_pattern": [:], "use_rslora": false, "use_dora": false, "lora_bias": false,
      "megatron_config": .null, "megatron_core": "megatron.core", "loftq_config": [:],
      "layer_replication": .null,
      "trainable_token_indices": .null, "target_parameters": .null, "use_qalora": false,
      "qalora_group_size": 16, "ensure_weight_tying": false,
    ]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let method = LinearMethod(
      name: "AdaLoRA", targets: targets,
      defaults: DefaultTargets.attention(changing: ["phi": ["q_proj", "v_proj"]]),
      modulesToSave: common.modulesToSave, biases: bias)
    var layers: [String: AdaLoRALinear] = [:]
    let (targets, parts, companions) = try method.parts(in: model) { path, layer in
      let change = try AdaLoRALinear(layer, kept: kept(path), self, device: model.device)
      layers[path] = change
      return change
    }
    return AdaLoRA(
      self, targets: targets, parts: parts, companions: companions,
      layers: targets.map { ($0, layers[$0]!) })
  }

  /// The triplets that a layer begins with; nil is all.
  private func kept(_ path: String) throws -> [Bool]? {
    guard let rankPattern else { return nil }
    guard let kept = rankPattern[path], kept.count == initR else {
      throw AdapterError(
        "`rank_pattern` does not say which \(initR) triplets of \(path) live; the adapter is for another base model."
      )
    }
    return kept
  }

  /// These settings for a run of `steps`.
  func scheduled(for steps: Int) throws -> AdaLoRAConfig {
    var scheduled = self
    scheduled.totalStep = totalStep ?? steps
    guard tinit < scheduled.totalStep! - tfinal else {
      throw AdapterError(
        "AdaLoRA has \(scheduled.totalStep!) steps (`total_step`, or those of the run) and none in which ranks could fall: "
          + AdaLoRAConfig.tooShort(tinit, tfinal) + ".")
    }
    return scheduled
  }
}

/// The triplets at one linear layer.
final class AdaLoRALinear: LinearChange {
  let a: Parameter  // [r, in]
  let e: Parameter  // [r, 1]
  let b: Parameter  // [out, r]
  /// Which of the `init_r` triplets these are; those that an earlier training took away are not here.
  let places: [Int]
  var rank: Int? { places.count }
  private let scale: Double
  private let loraDropout: Double
  var isTraining = false

  init(_ layer: Linear, kept: [Bool]?, _ configuration: AdaLoRAConfig, device: Device) throws {
    places = kept.map { $0.indices.filter { kept![$0] } } ?? Array(0..<configuration.initR)
    loraDropout = configuration.loraDropout
    // By the first rank, also when fewer triplets are left: the scale of those does not change. The small number is PEFT's.
    scale = configuration.loraAlpha / (Double(configuration.initR) + 1e-5)
    let rank = places.count
    func normal(_ shape: [Int], _ deviation: Double) throws -> Parameter {
      Parameter(try .normal(shape, standardDeviation: deviation, device: device))
    }
    let deviation = configuration.initLoRAWeights ? 0.02 : 1
    a = try normal([rank, layer.inFeatures], deviation)
    e = configuration.initLoRAWeights ? try .zeros([rank, 1], device: device) : try normal([rank, 1], 1)
    b = try normal([layer.outFeatures, rank], deviation)
  }

  var parameters: [(name: String, parameter: Parameter)] { [("lora_A", a), ("lora_B", b), ("lora_E", e)] }

  /// With the places of LoRA's other kinds, and the number of triplets, which is a parameter of PEFT's.
  var printed: PrintedLayer {
    PrintedLayer(
      "adalora.SVDLinear",
      slots: [.init("lora_dropout", .module(.dropout(loraDropout)))]
        + PrintedLayer.Slot.parameters(
          ["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"], parameters)
        + [
          .init("lora_magnitude_vector", .module(nil)), .init("lora_E", .parameter(shape: e.shape)),
          .init("ranknum", .parameter(shape: [1])),
        ])
  }

  private var dropout: Double { isTraining ? loraDropout : 0 }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let output = try next(input)
    guard !places.isEmpty else { return output }
    let dropped = try dropout > 0 ? input.dropout(dropout) : input
    let low = try dropped.linear((a.value * e.value).to(input.dtype))  // [T, r]
    return try output + low.linear(b.value(like: input)) * scale
  }

  var lowRankUpdate: LowRankUpdate? {
    guard !places.isEmpty, let scaled = try? a.value * e.value else { return nil }
    return LowRankUpdate(a: scaled, b: b.value, scale: scale, dropout: dropout)
  }

  /// W + s B diag(E) A.
  func merged(_ weight: Tensor) throws -> Tensor {
    places.isEmpty ? weight : try weight + b.value.matmul(a.value * e.value) * scale
  }
}

/// AdaLoRA on one model: its layers and the allocation of ranks among them.
final class AdaLoRA: ComposedAdapter {
  private var settings: AdaLoRAConfig
  private let layers: [(path: String, change: AdaLoRALinear)]
  private let allocator: RankAllocator

  init(
    _ settings: AdaLoRAConfig, targets: [String], parts: [any AdapterPart],
    companions: [(key: String, tensor: Tensor)], layers: [(path: String, change: AdaLoRALinear)]
  ) {
    self.settings = settings
    self.layers = layers
    allocator = RankAllocator(layers.map(\.change))
    super.init(targets: targets, parts: parts, companions: companions)
  }

  override var configuration: (any AdapterConfiguration)? { settings }

  /// PEFT counts the rank of every layer as a parameter.
  override var frozenCount: Int { layers.count }

  // MARK: Files

  /// The triplets that live now, of all that a layer has.
  private func living(_ path: String, _ change: AdaLoRALinear) -> [Int] {
    guard let kept = settings.rankPattern?[path] else { return Array(change.places.indices) }
    return change.places.indices.filter { kept[change.places[$0]] }
  }

  override var storedTensors: [AdapterTensor] {
    var pruned: [String: AdapterTensor] = [:]
    for (path, change) in layers {
      let living = living(path, change)
      guard living.count < change.places.count else { continue }
      for (name, parameter) in change.parameters {
        let dimension = name == "lora_B" ? 1 : 0
        let tensor = AdapterTensor(key: "\(path).\(name)", parameter, living, dimension: dimension)
        pruned[tensor.name] = tensor
      }
    }
    return super.storedTensors.map { pruned[$0.name] ?? $0 }
  }

  override func prepareLoading(_ configuration: any AdapterConfiguration) throws {
    guard let stored = configuration as? AdaLoRAConfig else { return }
    settings.rankPattern = stored.rankPattern
  }

  /// All triplets, those that do not live too, since they can come back; and the importance of each element so far.
  override var trainingState: [AdapterTensor] {
    layers.enumerated().flatMap { index, layer in
      layer.change.parameters.map { AdapterTensor(key: "\(layer.path).\($0.name)", $0.parameter) }
        + allocator.state(of: index).map { AdapterTensor(key: "\(layer.path).\($0.name)", $0.tensor) }
    }
  }

  // MARK: Training

  override func prepareTraining(totalSteps: Int) throws {
    try super.prepareTraining(totalSteps: totalSteps)
    settings = try settings.scheduled(for: totalSteps)
    try allocator.begin()
  }

  override func penalty() throws -> Tensor? {
    guard settings.orthRegWeight > 0 else { return nil }
    var sum: Tensor?
    for (_, change) in layers where !change.places.isEmpty {
      for covariance in [
        try change.a.value.matmul(change.a.value.transposed()),
        try change.b.value.transposed().matmul(change.b.value),
      ] {
        let term = try (covariance - Cayley.identity(change.places.count, device: covariance.device)).norm()
        sum = try sum.map { try $0 + term } ?? term
      }
    }
    return try sum.map { try $0 * (settings.orthRegWeight / Double(2 * layers.count)) }
  }

  /// PEFT counts steps from zero: its `update_and_allocate(step)` belongs behind step `step + 1`.
  override func didStep(_ step: Int) throws {
    guard let total = settings.totalStep else { return }
    try allocate(step - 1, total: total)
    // Without steps at the end in which ranks stay, PEFT's count stops before the last allocation.
    if settings.tfinal == 0, step == total { try allocate(step, total: total) }
  }

  private func allocate(_ step: Int, total: Int) throws {
    let last = total - settings.tfinal
    if step > last {
      try allocator.mask(layers.map { path, change in living(path, change) })
      return
    }
    if step < last { try allocator.observe(beta1: settings.beta1, beta2: settings.beta2) }
    guard step == last || (step > settings.tinit && step % settings.deltaT == 0) else { return }

    let first = allocator.tripletCount
    let target = min(settings.targetR * layers.count, first)
    // The budget falls with the cube of what is left of the schedule.
    let left = 1 - Double(step - settings.tinit) / Double(last - settings.tinit)
    let budget = Int(Double(first - target) * (left * left * left) + Double(target))
    let kept = try allocator.allocate(step == last ? target : budget)
    var pattern: OrderedDictionary<String, [Bool]> = [:]
    for ((path, change), kept) in zip(layers, kept) {
      var whole = [Bool](repeating: false, count: settings.initR)
      for (place, lives) in zip(change.places, kept) { whole[place] = lives }
      pattern[path] = whole
    }
    settings.rankPattern = pattern
    if step == last { try allocator.begin() }
  }
}

extension AdapterTensor {
  /// The rows or columns at `places` of a parameter; the others are zero when it is loaded.
  fileprivate init(key: String, _ parameter: Parameter, _ places: [Int], dimension: Int) {
    var shape = parameter.shape
    shape[dimension] = places.count
    func indices() throws -> Tensor { try Tensor(places.map(Int64.init), device: parameter.value.device) }
    self.init(
      name: Self.prefix + key, shape: shape,
      value: { try parameter.value.detached().selecting(indices(), dimension: dimension) },
      load: { stored in
        try parameter.value.fillInPlace(0)
        if !places.isEmpty {
          try parameter.value.replaceInPlace(indices(), with: stored, dimension: dimension)
        }
      })
  }

  /// Something that is no parameter, under a path in the base model.
  fileprivate init(key: String, _ tensor: Tensor) {
    self.init(
      name: Self.prefix + key, shape: tensor.shape, value: { tensor }, load: { try tensor.copyInPlace($0) })
  }
}
