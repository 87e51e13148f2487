import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// LN-tuning: the normalisations' own parameters are trained and nothing else (Zhao et al. 2023, arXiv:2312.11420).
///
/// Every target gets a trained copy of all its parameters, in fp32; nothing is added to the computation.
public struct LNTuningConfig: AdapterConfiguration, Hashable {
  public var targetModules: ModuleSelection?
  public var excludeModules: ModuleSelection?
  public var common: CommonAdapterSettings

  public init(
    targetModules: ModuleSelection? = nil, excludeModules: ModuleSelection? = nil,
    modulesToSave: [String]? = nil, taskType: String? = "CAUSAL_LM"
  ) {
    self.targetModules = targetModules
    self.excludeModules = excludeModules
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let obstacleToCombining = "whose values stand in the base's place, where only one can"

  public static let tunerName = "LNTuningModel"

  public static let method = AdapterMethod(
    peftType: "LN_TUNING",
    summary: "LN-tuning: the normalisations' own weights are trained and nothing else (arXiv 2312.11420).",
    options: TargetModules.options("train", byLayer: false) + CommonAdapterSettings.options
  ) { try LNTuningConfig($0) }

  public init(_ fields: AdapterFields) throws {
    targetModules = try fields.modules("target_modules")
    excludeModules = try fields.modules("exclude_modules")
    common = try CommonAdapterSettings(fields)
  }

  private var targets: TargetModules {
    TargetModules(targetModules: targetModules, excludeModules: excludeModules)
  }

  public var ownFields: OrderedDictionary<String, JSONValue> { targets.fields(byLayer: false) }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let chosen = try targets.resolve(
      in: model, defaults: DefaultTargets.norms, modulesToSave: common.modulesToSave)
    let parts = try chosen.flatMap { path, _ in
      try model.places(below: path).map { name, place in
        try ParameterReplacement(
          key: "\(path).ln_tuning_layers.\(name.dropFirst(path.count + 1))", place: place,
          isBesideOriginal: true)
      }
    }
    guard !parts.isEmpty else {
      throw AdapterError(
        "`target_modules` matches \(chosen[0].path), a \(chosen[0].module.typeName), which has no parameters to train. Name "
          + "normalisations, such as \(DefaultTargets.norms["llama"]![0]).")
    }
    // PEFT stores an embedding that is targeted with the adapter.
    let companions = try chosen.compactMap { path, module -> (key: String, tensor: Tensor)? in
      if let layer = module as? Linear, layer === model.head {
        return ("\(path).base_layer.weight", try layer.weight.dense())
      }
      return try (module as? Embedding).map { ("\(path).base_layer.weight", try $0.dense()) }
    }
    return LNTuning(chosen, parts: parts, companions: companions)
  }
}

/// LN-tuning on one model: its modules have trained copies beside them.
final class LNTuning: ComposedAdapter {
  private let modules: [String: Module]

  init(
    _ chosen: [(path: String, module: Module)], parts: [any AdapterPart],
    companions: [(key: String, tensor: Tensor)]
  ) {
    modules = Dictionary(uniqueKeysWithValues: chosen.map { ($0.path, $0.module) })
    super.init(targets: chosen.map(\.path), parts: parts, companions: companions)
  }

  override func printedLayer(at path: String) -> PrintedLayer? {
    modules[path].map {
      PrintedLayer("ln_tuning.LNTuningLayer", slots: [.init("ln_tuning_layers", .module($0.printed()))])
    }
  }
}
