import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// LoHa: the change of a weight is the element-wise product of two low-rank matrices, so that its rank can reach r²
/// (Hyeon-Woo et al. 2021, arXiv:2108.06098).
///
/// ΔW = alpha / r · (W1a W1b) ⊙ (W2a W2b), with factors `[out, r]` and `[r, in]`; W2b starts at zero.
public struct LoHaConfig: AdapterConfiguration, Hashable {
  public var settings: LyCORISSettings
  /// Whether W2b starts at zero, so that training starts at the base model.
  public var initWeights: Bool
  public var common: CommonAdapterSettings

  public init(
    _ settings: LyCORISSettings = LyCORISSettings(), initWeights: Bool = true, modulesToSave: [String]? = nil,
    taskType: String? = "CAUSAL_LM"
  ) {
    self.settings = settings
    self.initWeights = initWeights
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let tunerName = "LoHaModel"

  public static let method = AdapterMethod(
    peftType: "LOHA",
    summary:
      "LoHa: the change of a weight is the element-wise product of two low-rank matrices (arXiv 2108.06098).",
    options: LyCORISSettings.options + [
      .init(
        "init_weights", .boolean, default: true,
        "Start one factor at zero, so that training starts at the base model; `false` starts all at random.")
    ] + CommonAdapterSettings.options
  ) { try LoHaConfig($0) }

  public init(_ fields: AdapterFields) throws {
    settings = try LyCORISSettings(fields)
    initWeights = try fields.bool("init_weights", default: true)
    common = try CommonAdapterSettings(fields)
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    settings.fields.merging(["init_weights": .bool(initWeights)]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let method = LinearMethod(
      name: "LoHa", targets: settings.targets, defaults: DefaultTargets.attention,
      modulesToSave: common.modulesToSave)
    return try method.adapter(for: model) { path, layer in
      let (rank, scale) = try settings.rankAndScale(path)
      return try LoHaLinear(layer, rank: rank, scale: scale, self, device: model.device)
    }
  }
}

/// The four factors at one linear layer.
final class LoHaLinear: LinearChange {
  private let factors: [Parameter]  // [out, r], [r, in], [out, r], [r, in]
  private let scale: Double
  private let settings: LyCORISSettings
  var isTraining = false

  init(_ layer: Linear, rank: Int, scale: Double, _ configuration: LoHaConfig, device: Device) throws {
    self.scale = scale
    settings = configuration.settings
    let (left, right) = ([layer.outFeatures, rank], [rank, layer.inFeatures])
    factors = [
      try .kaimingUniform(left, device: device), try .kaimingUniform(right, device: device),
      try .kaimingUniform(left, device: device),
      try configuration.initWeights
        ? .zeros(right, device: device) : .kaimingUniform(right, device: device),
    ]
  }

  var parameters: [(name: String, parameter: Parameter)] {
    Array(zip(["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"], factors))
  }

  /// With the places that convolutions have.
  var printed: PrintedLayer {
    PrintedLayer(
      "loha.Linear",
      slots: PrintedLayer.Slot.parameters(parameters.map(\.name) + ["hada_t1", "hada_t2"], parameters))
  }

  /// `[out, in]` in fp32.
  private func delta() throws -> Tensor {
    let first = try factors[0].value.matmul(factors[1].value)
    return try first * factors[2].value.matmul(factors[3].value) * scale
  }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let output = try next(input)
    guard try settings.keepsModule(isTraining: isTraining) else { return output }
    var change = try input.linear(delta().to(input.dtype))
    if let mask = try settings.outputMask(
      layer.outFeatures, isTraining: isTraining, rescaling: true, device: input.device)
    {
      change = try change * mask.to(change.dtype)
    }
    return try output + change
  }

  func merged(_ weight: Tensor) throws -> Tensor { try weight + delta() }
}
