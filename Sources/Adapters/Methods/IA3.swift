import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// (IA)³: learned vectors that scale keys, values and the inner activations of the feed-forward (Liu et al. 2022,
/// arXiv:2205.05638).
///
/// y = l ⊙ (W x + b) with l `[out, 1]`; at feed-forward layers y = W (l ⊙ x) + b with l `[1, in]`. All start at one.
public struct IA3Config: AdapterConfiguration, Hashable {
  public var targetModules: ModuleSelection?
  public var excludeModules: ModuleSelection?
  /// Those of the targets whose input is scaled instead of their output; nil is the usual choice for the family.
  public var feedforwardModules: ModuleSelection?
  /// Whether the vectors start at one; else they are normal, so that the adapter does something at once.
  public var initIA3Weights: Bool
  public var common: CommonAdapterSettings

  public init(
    targetModules: ModuleSelection? = nil, excludeModules: ModuleSelection? = nil,
    feedforwardModules: ModuleSelection? = nil, modulesToSave: [String]? = nil, initIA3Weights: Bool = true,
    taskType: String? = "CAUSAL_LM"
  ) {
    self.targetModules = targetModules
    self.excludeModules = excludeModules
    self.feedforwardModules = feedforwardModules
    self.initIA3Weights = initIA3Weights
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let tunerName = "IA3Model"

  public static let method = AdapterMethod(
    peftType: "IA3",
    summary:
      "(IA)³: learned vectors that scale keys, values and the feed-forward's inner activations (arXiv 2205.05638).",
    options: TargetModules.options("scale", byLayer: false) + [
      .init(
        "feedforward_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Those of the target modules whose input is scaled instead of their output; `null` is the usual choice for the "
          + "model's family."),
      .init(
        "init_ia3_weights", .boolean, default: true,
        "Start the vectors at one, so that training starts at the base model; `false` starts them at random."),
      .fanInFanOut,
    ] + CommonAdapterSettings.options
  ) { try IA3Config($0) }

  public init(_ fields: AdapterFields) throws {
    targetModules = try fields.modules("target_modules")
    excludeModules = try fields.modules("exclude_modules")
    feedforwardModules = try fields.modules("feedforward_modules")
    initIA3Weights = try fields.bool("init_ia3_weights", default: true)
    common = try CommonAdapterSettings(fields)
    try fields.refuseFanInFanOut()
    if case .names(let targets)? = targetModules, case .names(let inner)? = feedforwardModules,
      let foreign = inner.first(where: { !targets.contains($0) })
    {
      throw fields.invalid(
        "feedforward_modules",
        remedy: "name only modules that `target_modules` names, which `\(foreign)` is not")
    }
  }

  private var targets: TargetModules {
    TargetModules(targetModules: targetModules, excludeModules: excludeModules)
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    targets.fields(byLayer: false).merging([
      "feedforward_modules": feedforwardModules?.json ?? .null, "init_ia3_weights": .bool(initIA3Weights),
      "fan_in_fan_out": false,
    ]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let method = LinearMethod(
      name: "IA3", targets: targets, defaults: DefaultTargets.ia3, modulesToSave: common.modulesToSave)
    return try method.adapter(for: model) { path, layer in
      try IA3Scaling(
        layer, scalesInput: isFeedForward(path, in: model), startsAtOne: initIA3Weights, device: model.device)
    }
  }

  /// Lists are compared with the end of the path, dot or not, as PEFT does.
  private func isFeedForward(_ path: String, in model: any PretrainedModel) throws -> Bool {
    switch feedforwardModules {
    case .names(let names)?: return names.contains { path.hasSuffix($0) }
    case let selection?: return try selection.matches(path, in: model)
    case nil:
      guard let names = DefaultTargets.ia3FeedForward[model.family.modelType] else {
        throw AdapterError(
          "There are no default `feedforward_modules` for the model type `\(model.family.modelType)`; name those of the "
            + "target modules whose input is to be scaled, or give an empty list.")
      }
      return names.contains { path.hasSuffix($0) }
    }
  }
}

/// The vector at one linear layer.
final class IA3Scaling: LinearChange {
  let vector: Parameter  // [1, in] or [out, 1]
  private let scalesInput: Bool

  init(_ layer: Linear, scalesInput: Bool, startsAtOne: Bool, device: Device) throws {
    self.scalesInput = scalesInput
    let shape = scalesInput ? [1, layer.inFeatures] : [layer.outFeatures, 1]
    vector = Parameter(try startsAtOne ? .ones(shape, device: device) : .normal(shape, device: device))
  }

  var parameters: [(name: String, parameter: Parameter)] { [("ia3_l", vector)] }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let scale = try vector.value.reshaped(-1)
    // Multiplied in fp32, so that small changes of the vector are not lost in bf16.
    if scalesInput { return try next((input * scale).to(input.dtype)) }
    let output = try next(input)
    return try (output * scale).to(output.dtype)
  }

  func merged(_ weight: Tensor) throws -> Tensor { try weight * vector.value }

  func merged(bias: Tensor?) throws -> Tensor? {
    try scalesInput ? bias : bias.map { try $0 * vector.value.reshaped(-1) }
  }
}
