import Models
import NeuralNetworks

/// Which of the base's biases are trained with an adapter: PEFT's option `bias`.
public enum TrainedBiases: Sendable, Hashable {
  case none
  /// Every bias of the model.
  case all
  /// Those of the layers that carry the method: `oft_only`, `vera_only`, …
  case targetsOnly

  /// - Parameter method: what stands before `_only`.
  init(_ fields: AdapterFields, method: String) throws {
    switch try fields.string("bias") ?? "none" {
    case "none": self = .none
    case "all": self = .all
    case "\(method)_only": self = .targetsOnly
    default: throw fields.invalid("bias", remedy: "write none, all or \(method)_only")
    }
  }

  static func option(method: String) -> AdapterOption {
    .init(
      "bias", .choice(["none", "all", "\(method)_only"]), default: "none", "Which biases are trained too.")
  }

  func name(method: String) -> String {
    switch self {
    case .none: "none"
    case .all: "all"
    case .targetsOnly: "\(method)_only"
    }
  }

  /// The biases of `model` that are meant, as PEFT names them beside the modules at `targets`.
  func replacements(in model: any PretrainedModel, beside targets: [String]) throws
    -> [ParameterReplacement]
  {
    guard self != .none else { return [] }
    let targets = Set(targets)
    return try model.namedModules().compactMap { path, module in
      guard let layer = module as? Linear, let bias = layer.bias else { return nil }
      if targets.contains(path) {
        return try ParameterReplacement(key: "\(path).base_layer.bias", place: .parameter(bias))
      }
      return self == .all ? try ParameterReplacement(key: "\(path).bias", place: .parameter(bias)) : nil
    }
  }
}
