import Models
import NeuralNetworks
import Torch

/// What most methods are: the same kind of change around every linear layer that the options choose.
struct LinearMethod {
  /// The method's name, for messages.
  let name: String
  let targets: TargetModules
  /// Default `target_modules` by model type.
  let defaults: [String: [String]]
  let modulesToSave: [String]?
  var biases = TrainedBiases.none

  /// The linear layers that are meant, in the model's order.
  ///
  /// - Throws: ``AdapterError`` when nothing is matched, or something that is no linear layer.
  func layers(in model: any PretrainedModel) throws -> [(path: String, layer: Linear)] {
    try targets.resolve(in: model, defaults: defaults, modulesToSave: modulesToSave).map { path, module in
      guard let layer = module as? Linear else {
        throw AdapterError(
          "`target_modules` matches \(path), a \(module.typeName); \(name) works on linear layers. Name modules within it."
        )
      }
      return (path, layer)
    }
  }

  /// One part for every layer, and one for every trained bias.
  func parts(
    in model: any PretrainedModel, change: (_ path: String, _ layer: Linear) throws -> any LinearChange
  ) throws -> (targets: [String], parts: [any AdapterPart], companions: [(key: String, tensor: Tensor)]) {
    let chosen = try layers(in: model)
    let paths = chosen.map(\.path)
    var parts: [any AdapterPart] = try chosen.map { path, layer in
      let change = try change(path, layer)
      for (_, parameter) in change.parameters { try parameter.setTrainable(true) }
      return LinearPart(path: path, layer: layer, change: change)
    }
    parts += try biases.replacements(in: model, beside: paths) as [any AdapterPart]
    // PEFT stores an output embedding that is targeted with the adapter.
    let companions = try chosen.filter { $0.layer === model.head }.map {
      (key: "\($0.path).base_layer.weight", tensor: try $0.layer.weight.dense())
    }
    return (paths, parts, companions)
  }

  func adapter(
    for model: any PretrainedModel,
    change: (_ path: String, _ layer: Linear) throws -> any LinearChange
  ) throws -> ComposedAdapter {
    let (targets, parts, companions) = try parts(in: model, change: change)
    return ComposedAdapter(targets: targets, parts: parts, companions: companions)
  }
}

extension Parameter {
  /// He et al.'s uniform start as PyTorch's linear layers have it: bound 1 / √columns.
  static func kaimingUniform(_ shape: [Int], device: Device) throws -> Parameter {
    let bound = 1 / Double(max(shape[1], 1)).squareRoot()
    return Parameter(try .uniform(shape, low: -bound, high: bound, device: device))
  }

  static func zeros(_ shape: [Int], device: Device) throws -> Parameter {
    Parameter(try .zeros(shape, device: device))
  }
}
