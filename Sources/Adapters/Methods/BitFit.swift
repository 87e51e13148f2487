import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// BitFit: the biases are trained and nothing else (Ben Zaken et al. 2022, arXiv:2106.10199).
///
/// PEFT has no such method. Its files here have the form of PEFT's: `peft_type` is `BITFIT`, and the trained biases stand
/// under their paths in the base model, `base_model.model.model.layers.0.self_attn.q_proj.bias`, as LoRA's `bias: all` has them.
public struct BitFitConfig: AdapterConfiguration, Hashable {
  /// The modules whose biases are trained; nil is all that have one.
  public var targetModules: ModuleSelection?
  public var excludeModules: ModuleSelection?
  /// Whether linear layers without a bias get one, which starts at zero.
  public var createBiases: Bool
  public var common: CommonAdapterSettings

  public init(
    targetModules: ModuleSelection? = nil, excludeModules: ModuleSelection? = nil, createBiases: Bool = false,
    modulesToSave: [String]? = nil, taskType: String? = "CAUSAL_LM"
  ) {
    self.targetModules = targetModules
    self.excludeModules = excludeModules
    self.createBiases = createBiases
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let obstacleToCombining = "whose values stand in the base's place, where only one can"

  public static let tunerName = "BitFitModel"

  public static let method = AdapterMethod(
    peftType: "BITFIT",
    summary: "BitFit: the biases are trained and nothing else (arXiv 2106.10199). Not in PEFT.",
    options: [
      .init(
        "target_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Modules whose biases are trained: names or endings of paths, a regular expression of whole paths, or "
          + "`all-linear`. `null` is every module that has one."),
      .init(
        "exclude_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Modules to leave out."),
      .init(
        "create_biases", .boolean, default: false,
        "Give linear layers that have no bias one that starts at zero (without `target_modules`, all but the output "
          + "embedding). Such biases cannot be merged."),
    ] + CommonAdapterSettings.options
  ) { try BitFitConfig($0) }

  public init(_ fields: AdapterFields) throws {
    targetModules = try fields.modules("target_modules")
    excludeModules = try fields.modules("exclude_modules")
    createBiases = try fields.bool("create_biases", default: false)
    common = try CommonAdapterSettings(fields)
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    TargetModules(targetModules: targetModules, excludeModules: excludeModules).fields(byLayer: false)
      .merging(["create_biases": .bool(createBiases)]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let biases = model.namedModules().compactMap { path, module -> (path: String, bias: Parameter)? in
      for case (name: "bias", part: .parameter(let bias)) in module.parts { return (path, bias) }
      return nil
    }
    guard createBiases || !biases.isEmpty else {
      throw AdapterError(
        "This \(model.typeName) has no biases to train. Set `create_biases: true` to give its linear layers some."
      )
    }
    // Without target_modules: what has a bias already, and with create_biases what can get one.
    let everything = Set(biases.map(\.path)).union(
      createBiases
        ? model.namedModules().filter { $0.module is Linear && $0.module !== model.head }.map(
          \.path) : [])
    let targets = TargetModules(
      targetModules: targetModules ?? .names(model.namedModules().map(\.path).filter(everything.contains)),
      excludeModules: excludeModules)
    let chosen = try targets.resolve(in: model, defaults: [:], modulesToSave: common.modulesToSave)
    let existing = Dictionary(uniqueKeysWithValues: biases)
    var parts: [any AdapterPart] = []
    var paths: [String] = []
    for (path, module) in chosen {
      if let bias = existing[path] {
        parts.append(try ParameterReplacement(key: "\(path).bias", place: .parameter(bias)))
        paths.append(path)
      } else if createBiases, let layer = module as? Linear {
        parts.append(
          LinearPart(path: path, layer: layer, change: try CreatedBias(layer, device: model.device)))
        paths.append(path)
      }
    }
    guard !paths.isEmpty else {
      let known = biases.prefix(3).map(\.path).joined(separator: ", ")
      throw AdapterError(
        "None of the modules that `target_modules` matches has a bias. "
          + (known.isEmpty ? "No module of this model has; " : "Those that have one are called \(known), …; ")
          + "or set `create_biases: true`.")
    }
    return ComposedAdapter(targets: paths, parts: parts)
  }
}

/// A bias for a linear layer that has none.
final class CreatedBias: LinearChange {
  private let bias: Parameter  // [out]

  init(_ layer: Linear, device: Device) throws {
    bias = try .zeros([layer.outFeatures], device: device)
    try bias.setTrainable(true)
  }

  var parameters: [(name: String, parameter: Parameter)] { [("bias", bias)] }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let output = try next(input)
    return try output + bias.value(like: output)
  }

  func merged(_ weight: Tensor) throws -> Tensor { weight }

  func merged(bias current: Tensor?) throws -> Tensor? {
    throw AdapterError(
      "the layer has no bias that the created one could be merged into, and the model's configuration no way to say that it "
        + "has. Use the adapter unmerged, or train without create_biases.")
  }
}
