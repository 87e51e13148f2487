import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// Prefix tuning: trained keys and values before those of each sequence, in every layer (Li & Liang 2021, arXiv:2101.00190;
/// without the projection also known as P-tuning v2, Liu et al. 2022, arXiv:2110.07602).
public struct PrefixTuningConfig: AdapterConfiguration, Hashable {
  public var virtualTokens: VirtualTokenSettings
  /// Whether a network computes keys and values from smaller vectors: the paper's reparameterisation, which steadies
  /// training. It is needed in training only; the adapter's file has the keys and values that it gave last.
  public var prefixProjection: Bool
  /// Width of that network; nil is that of a layer's keys.
  public var encoderHiddenSize: Int?
  /// Whether keys and values start at zero instead of at random.
  public var startsAtZero: Bool
  public var common: CommonAdapterSettings

  public init(
    numVirtualTokens: Int, prefixProjection: Bool = false, encoderHiddenSize: Int? = nil,
    startsAtZero: Bool = false,
    taskType: String? = "CAUSAL_LM"
  ) {
    virtualTokens = VirtualTokenSettings(count: numVirtualTokens)
    self.prefixProjection = prefixProjection
    self.encoderHiddenSize = encoderHiddenSize
    self.startsAtZero = startsAtZero
    common = CommonAdapterSettings(taskType: taskType)
  }

  public static let obstacleToCombining = "whose virtual tokens are read in a row and mean nothing as a sum"

  public static let method = AdapterMethod(
    peftType: "PREFIX_TUNING",
    summary:
      "Prefix tuning: trained keys and values before those of each sequence, in every layer (arXiv 2101.00190).",
    options: [
      VirtualTokenSettings.option,
      .init(
        "prefix_projection", .boolean, default: false,
        "Compute keys and values by a small network in training, from one vector a virtual token."),
      .init(
        "encoder_hidden_size", .optional(.integer), default: nil,
        "Width of that network; `null` is that of a layer's keys."),
      .init(
        "init_weights", .optional(.choice(["zero"])), default: nil,
        "`zero`: keys and values start at zero instead of at random."),
    ] + CommonAdapterSettings.options,
    inertFields: VirtualTokenSettings.recordedFields
  ) { try PrefixTuningConfig($0) }

  public init(_ fields: AdapterFields) throws {
    virtualTokens = try VirtualTokenSettings(fields)
    prefixProjection = try fields.bool("prefix_projection", default: false)
    encoderHiddenSize = try fields.integer("encoder_hidden_size", maximum: 65_536)
    common = try CommonAdapterSettings(fields)
    let start = try fields.string("init_weights")
    guard start == nil || start == "zero" else {
      throw fields.invalid("init_weights", remedy: "write null or zero")
    }
    startsAtZero = start == "zero"
    if encoderHiddenSize != nil, !prefixProjection, !virtualTokens.isSaved {
      throw fields.invalid("encoder_hidden_size", remedy: "leave it out, or set prefix_projection to true")
    }
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    virtualTokens.fields.merging(
      [
        "prefix_projection": .bool(prefixProjection),
        "encoder_hidden_size": encoderHiddenSize.map(JSONValue.integer) ?? .null,
        "init_weights": startsAtZero ? "zero" : .null,
      ], uniquingKeysWith: { $1 })
  }

  public var virtualTokenCount: Int { virtualTokens.count }

  public mutating func complete(for model: any PretrainedModel) throws {
    try virtualTokens.complete(for: model, areKeysAndValues: true)
    encoderHiddenSize = encoderHiddenSize ?? virtualTokens.tokenDim
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let (layers, attention, count) = (model.layerCount, model.attentionShape, virtualTokens.count)
    let (heads, features) = (attention.keyValueHeadCount, attention.headDimension)
    let encoder = try PrefixEncoder(
      self, keyWidth: heads * features, layerCount: layers, device: model.device)
    return VirtualTokenAdapter(encoder, count: count, width: 2 * layers * heads * features, model: model) {
      // layer → (key, value) → head → feature
      let parts = try $0.reshaped(count, 2 * layers, heads, features)
      return .keysAndValues(
        try (0..<layers).map { layer in
          func part(_ index: Int) throws -> Tensor {
            try parts.slice(index..<index + 1, dimension: 1).squeezed(1)  // [n, heads, features]
          }
          return (keys: try part(2 * layer), values: try part(2 * layer + 1))
        })
    }
  }
}

/// The keys and values of a prefix, or the network that computes them, with PEFT's names.
final class PrefixEncoder: Module, VirtualTokenEncoder {
  let embedding: Embedding  // [n, 2 · layers · keyWidth], or [n, keyWidth] before the network
  /// Linear, tanh, linear; empty without projection.
  let transform: [Module]
  var isTraining = false

  init(_ configuration: PrefixTuningConfig, keyWidth: Int, layerCount: Int, device: Device) throws {
    let (count, width) = (configuration.virtualTokens.count, 2 * layerCount * keyWidth)
    let last: Parameter?
    if configuration.prefixProjection {
      let inner = configuration.encoderHiddenSize ?? keyWidth
      embedding = try .initialized(count, keyWidth, device: device)
      let output = try Linear.initialized(inner, width, device: device)
      transform = [try Linear.initialized(keyWidth, inner, device: device), Tanh(), output]
      last = output.weight.parameter
      if configuration.startsAtZero { try output.bias?.value.fillInPlace(0) }
    } else {
      embedding = try .initialized(count, width, device: device)
      transform = []
      last = embedding.weight
    }
    if configuration.startsAtZero { try last?.value.fillInPlace(0) }
  }

  var isTable: Bool { transform.isEmpty }

  func callAsFunction() throws -> Tensor {
    try transform.reduce(embedding.weight.value) { states, layer in
      try (layer as? Linear)?(states) ?? states.tanh()
    }
  }

  /// A place between linear layers, which has no parameters.
  private final class Tanh: Module {}
}
