import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// VeRA: one pair of frozen random matrices for all layers, and two trained vectors at each (Kopiczko et al. 2023,
/// arXiv:2310.11454).
///
/// y = W x + λ_b ⊙ (B (λ_d ⊙ (A x))), with λ_b `[out]` starting at zero and λ_d `[r]` at `d_initial`. A `[r, in]` and
/// B `[out, r]` are as large as the largest target needs; smaller ones take their first columns and rows.
public struct VeRAConfig: AdapterConfiguration, Hashable {
  /// The rank: a few hundred, as only vectors are trained.
  public var r: Int
  public var targets: TargetModules
  /// The seed of A and B.
  public var projectionPRNGKey: Int
  /// Whether A and B are stored with the adapter; else they are drawn again from the seed.
  public var saveProjection: Bool
  /// The probability with which features of the input are dropped before A, in training.
  public var veraDropout: Double
  /// What λ_d starts at.
  public var dInitial: Double
  public var bias: TrainedBiases
  /// Whether the vectors start so that training starts at the base model.
  public var initWeights: Bool
  public var common: CommonAdapterSettings

  public init(
    r: Int = 256, targetModules: ModuleSelection? = nil, projectionPRNGKey: Int = 0,
    saveProjection: Bool = true, veraDropout: Double = 0, dInitial: Double = 0.1, bias: TrainedBiases = .none,
    modulesToSave: [String]? = nil, initWeights: Bool = true, layersToTransform: [Int]? = nil,
    layersPattern: [String]? = nil, taskType: String? = "CAUSAL_LM"
  ) {
    self.r = r
    targets = TargetModules(
      targetModules: targetModules, layersToTransform: layersToTransform, layersPattern: layersPattern)
    self.projectionPRNGKey = projectionPRNGKey
    self.saveProjection = saveProjection
    self.veraDropout = veraDropout
    self.dInitial = dInitial
    self.bias = bias
    self.initWeights = initWeights
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let tunerName = "VeraModel"

  public static let method = AdapterMethod(
    peftType: "VERA",
    summary:
      "VeRA: frozen random matrices that all layers share, and two trained vectors at each (arXiv 2310.11454).",
    options: [.init("r", .integer, default: 256, "Rank: columns of the shared matrices.")]
      + TargetModules.options(excluding: false) + [
        .init("projection_prng_key", .integer, default: 0, "Seed of the shared matrices."),
        .init(
          "save_projection", .boolean, default: true,
          "Store the shared matrices with the adapter; `false` draws them again from the seed when it is loaded."
        ),
        .init(
          "vera_dropout", .number, default: 0.0,
          "Probability of dropping an input of the update in training."),
        .init("d_initial", .number, default: 0.1, "What the vector between the matrices starts at."),
        TrainedBiases.option(method: "vera"),
        .init(
          "init_weights", .boolean, default: true,
          "Start the outer vector at zero, so that training starts at the base model; `false` starts both at random."
        ),
        .fanInFanOut,
      ] + CommonAdapterSettings.options
  ) { try VeRAConfig($0) }

  public init(_ fields: AdapterFields) throws {
    r = try fields.integer("r", default: 256, maximum: LoRAConfig.maximumRank)
    targets = try TargetModules(fields)
    projectionPRNGKey = try fields.integer("projection_prng_key", default: 0, minimum: 0, maximum: .max)
    saveProjection = try fields.bool("save_projection", default: true)
    veraDropout = try fields.probability("vera_dropout")
    dInitial = try fields.number("d_initial", default: 0.1)
    bias = try TrainedBiases(fields, method: "vera")
    initWeights = try fields.bool("init_weights", default: true)
    common = try CommonAdapterSettings(fields)
    try fields.refuseFanInFanOut()
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    targets.fields(excluding: false).merging([
      "r": .integer(r), "projection_prng_key": .integer(projectionPRNGKey),
      "save_projection": .bool(saveProjection), "vera_dropout": .number(veraDropout),
      "d_initial": .number(dInitial), "bias": .string(bias.name(method: "vera")),
      "init_weights": .bool(initWeights), "fan_in_fan_out": false,
    ]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let method = LinearMethod(
      name: "VeRA", targets: targets,
      defaults: DefaultTargets.attention(changing: ["phi": ["q_proj", "v_proj"]]),
      modulesToSave: common.modulesToSave, biases: bias)
    let layers = try method.layers(in: model).map(\.layer)
    let projections = try VeRAProjections(
      rank: r, inFeatures: layers.map(\.inFeatures).max() ?? 0,
      outFeatures: layers.map(\.outFeatures).max() ?? 0,
      seed: UInt64(projectionPRNGKey), device: model.device)
    let (targets, parts, companions) = try method.parts(in: model) { _, layer in
      try VeRALinear(layer, projections, self, device: model.device)
    }
    return VeRA(
      targets: targets, parts: parts, companions: companions, shared: saveProjection ? projections : nil)
  }
}

/// The random matrices, drawn as PEFT draws them: He et al.'s uniform, A first, from one seed.
final class VeRAProjections {
  private(set) var a: Tensor  // [r, largest in]
  private(set) var b: Tensor  // [largest out, r]

  init(rank: Int, inFeatures: Int, outFeatures: Int, seed: UInt64, device: Device) throws {
    let generator = try SeededGenerator(seed: seed)
    func draw(_ shape: [Int]) throws -> Tensor {
      let bound = 3.0.squareRoot() * (2.0.squareRoot() / Double(shape[1]).squareRoot())
      return try generator.uniform(shape, low: -bound, high: bound).to(device: device)
    }
    a = try draw([rank, inFeatures])
    b = try draw([outFeatures, rank])
  }

  /// Under names of their own, outside the base's tree.
  var storedTensors: [AdapterTensor] {
    [
      AdapterTensor(
        name: "base_model.vera_A", shape: a.shape, value: { self.a }, load: { self.a = $0 }),
      AdapterTensor(
        name: "base_model.vera_B", shape: b.shape, value: { self.b }, load: { self.b = $0 }),
    ]
  }
}

/// VeRA on one model: its layers, and the matrices they share.
final class VeRA: ComposedAdapter {
  private let shared: VeRAProjections?

  /// - Parameter shared: the matrices, when they are stored with the adapter.
  init(
    targets: [String], parts: [any AdapterPart], companions: [(key: String, tensor: Tensor)],
    shared: VeRAProjections?
  ) {
    self.shared = shared
    super.init(targets: targets, parts: parts, companions: companions)
  }

  override var storedTensors: [AdapterTensor] { super.storedTensors + (shared?.storedTensors ?? []) }

  /// The shared matrices once more, behind the model.
  override var printedShared: [PrintedLayer.Slot] {
    let slots = targets.first.flatMap { printedLayer(at: $0) }?.slots ?? []
    return slots.filter { if case .buffer = $0.content { true } else { false } }
  }
}

/// The two vectors at one linear layer.
final class VeRALinear: LinearChange {
  let outer: Parameter  // λ_b [out]
  let inner: Parameter  // λ_d [r]
  private let projections: VeRAProjections
  private let inFeatures: Int
  private let outFeatures: Int
  private let dropout: Double
  var isTraining = false

  init(_ layer: Linear, _ projections: VeRAProjections, _ configuration: VeRAConfig, device: Device) throws {
    self.projections = projections
    (inFeatures, outFeatures) = (layer.inFeatures, layer.outFeatures)
    dropout = configuration.veraDropout
    if configuration.initWeights {
      outer = try .zeros([outFeatures], device: device)
      inner = Parameter(try .full([configuration.r], configuration.dInitial, device: device))
    } else {
      outer = Parameter(try .ones([outFeatures], device: device))
      inner = Parameter(try .normal([configuration.r], device: device))
    }
  }

  var parameters: [(name: String, parameter: Parameter)] {
    [("vera_lambda_b", outer), ("vera_lambda_d", inner)]
  }

  /// With the shared matrices at every layer.
  var printed: PrintedLayer {
    PrintedLayer(
      "vera.Linear",
      slots: [PrintedLayer.Slot("vera_dropout", .module(.dropout(dropout)))]
        + PrintedLayer.Slot.parameters(parameters.map(\.name), parameters)
        + [
          PrintedLayer.Slot("vera_A", .buffer(shape: projections.a.shape)),
          PrintedLayer.Slot("vera_B", .buffer(shape: projections.b.shape)),
        ])
  }

  private var a: Tensor { get throws { try projections.a.slice(0..<inFeatures, dimension: 1) } }  // [r, in]
  private var b: Tensor { get throws { try projections.b.slice(0..<outFeatures) } }  // [out, r]

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let dropped = try isTraining && dropout > 0 ? input.dropout(dropout) : input
    let low = try dropped.linear(a.to(input.dtype)) * inner.value(like: input)  // [T, r]
    return try next(input) + low.linear(b.to(input.dtype)) * outer.value(like: input)
  }

  /// W + diag(λ_b) B diag(λ_d) A.
  func merged(_ weight: Tensor) throws -> Tensor {
    try weight + (outer.value.unsqueezed(-1) * b).matmul(inner.value.unsqueezed(-1) * a)
  }
}
