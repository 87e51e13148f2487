import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// Full fine-tuning: the model's own parameters are trained, all of them, the last blocks, or those that patterns name.
///
/// What comes out is a model, not an adapter: it is saved as a Hugging Face model directory. Copies in fp32 are trained, since
/// steps of training are smaller than bf16 can hold (Micikevicius et al. 2018, arXiv:1710.03740: master copies); the model is saved in
/// the type that it came in. Or the weights are trained in bf16 themselves, and each update is rounded up or down by chance.
public struct FullFineTuningConfig: AdapterConfiguration, Hashable {
  /// How many blocks are trained, counted from the output; nil sets no such limit.
  public var numTrainableLayers: Int?
  /// Regular expressions of whole parameter names, of which those that match one are trained; nil names none.
  public var trainableParameters: [String]?
  /// Whether bf16 weights themselves are trained, with updates rounded up or down by chance, instead of copies in fp32.
  public var stochasticRounding: Bool
  public var common: CommonAdapterSettings

  /// With neither option everything is trained, with both what either of them names.
  public init(
    numTrainableLayers: Int? = nil, trainableParameters: [String]? = nil, stochasticRounding: Bool = false,
    taskType: String? = "CAUSAL_LM"
  ) {
    self.numTrainableLayers = numTrainableLayers
    self.trainableParameters = trainableParameters
    self.stochasticRounding = stochasticRounding
    common = CommonAdapterSettings(taskType: taskType)
  }

  public static let obstacleToCombining = "which is a model and no adapter"

  public static let method = AdapterMethod(
    peftType: "FULL",
    summary:
      "Full fine-tuning: the model's own parameters are trained, and the output is a model directory instead of an adapter.",
    options: [
      .init(
        "num_trainable_layers", .optional(.integer), default: nil,
        "Train this many blocks, counted from the output. With `null` and without `trainable_parameters`, everything is "
          + "trained."),
      .init(
        "trainable_parameters", .optional(.list(.string)), default: nil,
        "Train the parameters whose whole name one of these regular expressions matches, such as `model\\.norm\\.weight` or "
          + "`.*mlp.*`; beside the blocks of `num_trainable_layers` if both are given."),
      .init(
        "stochastic_rounding", .boolean, default: false,
        "Train the bfloat16 weights themselves and round each update up or down by chance, which is exact in the mean, instead of "
          + "training copies in float32: 4 bytes a parameter less, weight and gradient together."),
    ] + CommonAdapterSettings.options.filter { $0.name == "task_type" }
  ) { try FullFineTuningConfig($0) }

  public init(_ fields: AdapterFields) throws {
    numTrainableLayers =
      fields.values["num_trainable_layers"].map(\.isNull) ?? true
      ? nil : try fields.integer("num_trainable_layers", default: 1)
    trainableParameters = try fields.strings("trainable_parameters")
    stochasticRounding = try fields.bool("stochastic_rounding", default: false)
    common = try CommonAdapterSettings(fields)
    guard common.modulesToSave == nil else {
      throw fields.invalid(
        "modules_to_save",
        remedy: "name the parameters in `trainable_parameters`: here everything that is trained is saved")
    }
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    [
      "num_trainable_layers": numTrainableLayers.map(JSONValue.integer) ?? .null,
      "trainable_parameters": trainableParameters.map { .array($0.map(JSONValue.string)) } ?? .null,
      "stochastic_rounding": .bool(stochasticRounding),
    ]
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let isPacked = { (module: Module) in (module as? Linear).map { $0.weight.parameter == nil } ?? false }
    if let packed = model.namedModules().first(where: { isPacked($0.module) }) {
      throw AdapterError(
        "The weight of \(packed.path) is held in a quantized form, which cannot be trained. Load the base in float32 or "
          + "bfloat16, or train an adapter on it instead (`peft_method: lora`).")
    }
    guard !stochasticRounding || model.dtype == .bfloat16 else {
      throw AdapterError(
        "`stochastic_rounding` is for weights in bfloat16, and this base is in \(model.dtype.torchName). Load it in bfloat16 (`bf16: "
          + "true`), or leave the setting out.")
    }
    if let layers = numTrainableLayers, layers > model.layerCount {
      throw AdapterError(
        "`num_trainable_layers` is \(layers), and this \(model.typeName) has \(model.layerCount) blocks; write at most that."
      )
    }
    var seen: Set<ObjectIdentifier> = []
    let named = model.namedParameters().filter { seen.insert(ObjectIdentifier($0.parameter)).inserted }
    let patterns = try trainableParameters?.map { try RegularExpression($0) }
    for (pattern, text) in zip(patterns ?? [], trainableParameters ?? [])
    where !named.contains(where: { pattern.matchesWhole($0.path) }) {
      throw AdapterError(
        "`trainable_parameters` names `\(text)`, which matches the whole name of no parameter of this \(model.typeName). They "
          + "are called \(named.prefix(3).map(\.path).joined(separator: ", ")), …; `graft inspect` prints all names."
      )
    }
    let newHead = (model as? any SequenceClassificationModel)?.hasNewHead ?? false
    let chosen = named.filter { path, parameter in
      if numTrainableLayers == nil, patterns == nil { return true }
      // Without training it would stay as random as it is.
      if newHead, model.head.parameters().contains(where: { $0 === parameter }) { return true }
      if let layers = numTrainableLayers, let block = Self.blockIndex(path),
        block >= model.layerCount - layers
      {
        return true
      }
      return patterns?.contains { $0.matchesWhole(path) } ?? false
    }
    return try FullFineTuning(
      trained: chosen, all: named, model: model, keepsType: stochasticRounding)
  }

  /// The first number in a path: `model.layers.3.mlp.up_proj.weight` is of block 3.
  private static func blockIndex(_ path: String) -> Int? {
    path.split(separator: ".").lazy.compactMap { Int($0) }.first
  }
}

/// The trained parameters of one model in place of its own.
final class FullFineTuning: ComposedAdapter {
  private let model: any PretrainedModel
  /// Every parameter by its name in the model's files.
  private let all: [(path: String, parameter: Parameter)]
  private let copies: [String: Parameter]
  private let dtype: DType
  private let keptType: KeptType?
  private let keepsType: Bool

  /// - Parameter keepsType: whether what is trained has the model's type, instead of fp32.
  init(
    trained: [(path: String, parameter: Parameter)], all: [(path: String, parameter: Parameter)],
    model: any PretrainedModel, keepsType: Bool
  ) throws {
    // In the parameter itself, so that what is tied stays tied.
    let parts = try trained.map {
      try ParameterReplacement(key: $0.path, place: .parameter($0.parameter), keepsType: keepsType)
    }
    self.model = model
    self.all = all
    copies = Dictionary(uniqueKeysWithValues: parts.map { ($0.key, $0.replacement) })
    dtype = model.dtype
    self.keepsType = keepsType
    keptType = dtype == .float32 ? nil : KeptType(dtype)
    var modules: [String] = []
    for (path, _) in trained {
      let module = path.split(separator: ".").dropLast().joined(separator: ".")
      if modules.last != module { modules.append(module) }
    }
    super.init(targets: modules, parts: parts)
  }

  override func activate() throws {
    try super.activate()
    // An fp32 embedding would have the whole model computed in fp32.
    if let keptType { model.inputEmbedding.adapters.append(keptType) }
  }

  override func deactivate() throws {
    model.inputEmbedding.adapters.removeAll { $0 === keptType }
    try super.deactivate()
  }

  override var isWholeModel: Bool { true }

  /// Every parameter of the model: those that are not trained are only compared with the file by their shape.
  override var storedTensors: [AdapterTensor] {
    all.map { path, parameter in
      let trained = copies[path]
      return AdapterTensor(
        name: path, shape: parameter.shape, value: { try (trained ?? parameter).value.detached() },
        load: trained.map { copy in { try copy.value.copyInPlace($0) } })
    }
  }

  /// What rounding to the model's type loses.
  override var trainingState: [AdapterTensor] {
    dtype == .float32 || keepsType ? [] : parameters.map { AdapterTensor(key: $0.key, $0.parameter) }
  }
}

/// Gives what an embedding looks up in the type that the model computes in.
private final class KeptType: EmbeddingAdapter {
  private let dtype: DType

  init(_ dtype: DType) {
    self.dtype = dtype
  }

  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor { try output.to(dtype) }
}
