import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// P-tuning: vectors before the embeddings of each sequence that a small trained network computes, which trains more evenly
/// than the vectors alone (Liu et al. 2021, arXiv:2103.10385).
///
/// The network is needed in training only: the adapter's file has the vectors that it gave last.
public struct PromptEncoderConfig: AdapterConfiguration, Hashable {
  /// What computes the vectors from a table of as many.
  public enum Reparameterization: String, Sendable, Hashable, CaseIterable {
    /// Three linear layers with ReLU between, for each vector alone.
    case mlp = "MLP"
    /// An LSTM in both directions over the vectors, and two linear layers with ReLU between.
    case lstm = "LSTM"
  }

  public var virtualTokens: VirtualTokenSettings
  public var encoderReparameterizationType: Reparameterization
  /// Width of the network; nil is the model's.
  public var encoderHiddenSize: Int?
  /// Layers of the LSTM.
  public var encoderNumLayers: Int
  /// The probability of dropping features between the layers of the LSTM, in training.
  public var encoderDropout: Double
  public var common: CommonAdapterSettings

  public init(
    numVirtualTokens: Int, encoderReparameterizationType: Reparameterization = .mlp,
    encoderHiddenSize: Int? = nil, encoderNumLayers: Int = 2, encoderDropout: Double = 0,
    taskType: String? = "CAUSAL_LM"
  ) {
    virtualTokens = VirtualTokenSettings(count: numVirtualTokens)
    self.encoderReparameterizationType = encoderReparameterizationType
    self.encoderHiddenSize = encoderHiddenSize
    self.encoderNumLayers = encoderNumLayers
    self.encoderDropout = encoderDropout
    common = CommonAdapterSettings(taskType: taskType)
  }

  public static let obstacleToCombining = "whose virtual tokens are read in a row and mean nothing as a sum"

  public static let method = AdapterMethod(
    peftType: "P_TUNING",
    summary:
      "P-tuning: vectors before the embeddings of each sequence, computed by a small trained network (arXiv 2103.10385).",
    options: [
      VirtualTokenSettings.option,
      .init(
        "encoder_reparameterization_type", .choice(Reparameterization.allCases.map(\.rawValue)),
        default: "MLP",
        "The network: three linear layers (`MLP`), or an LSTM in both directions and two linear layers (`LSTM`)."
      ),
      .init(
        "encoder_hidden_size", .optional(.integer), default: nil,
        "Width of the network; `null` is the model's."),
      .init("encoder_num_layers", .integer, default: 2, "Layers of the LSTM; the MLP always has its three."),
      .init(
        "encoder_dropout", .number, default: 0.0,
        "Probability of dropping features between the layers of the LSTM in training."),
    ] + CommonAdapterSettings.options,
    inertFields: VirtualTokenSettings.recordedFields
  ) { try PromptEncoderConfig($0) }

  public init(_ fields: AdapterFields) throws {
    virtualTokens = try VirtualTokenSettings(fields)
    let type = try fields.string("encoder_reparameterization_type") ?? "MLP"
    guard let known = Reparameterization(rawValue: type) else {
      throw fields.invalid("encoder_reparameterization_type", remedy: "write MLP or LSTM")
    }
    encoderReparameterizationType = known
    encoderHiddenSize = try fields.integer("encoder_hidden_size", maximum: 65_536)
    encoderNumLayers = try fields.integer("encoder_num_layers", default: 2, maximum: 1000)
    encoderDropout = try fields.number("encoder_dropout", default: 0)
    common = try CommonAdapterSettings(fields)
    guard (0..<1).contains(encoderDropout) else {
      throw fields.invalid("encoder_dropout", remedy: "write a probability from 0 to below 1")
    }
    // A saved adapter needs no network; in a new one, what changes nothing is a mistake.
    guard !virtualTokens.isSaved else { return }
    if known == .mlp, encoderNumLayers != 2 {
      throw fields.invalid(
        "encoder_num_layers",
        remedy:
          "leave it out: the MLP always has the same layers, or set encoder_reparameterization_type to LSTM")
    }
    if encoderDropout > 0, known == .mlp || encoderNumLayers == 1 {
      throw fields.invalid(
        "encoder_dropout", remedy: "leave it out: it acts between the layers of an LSTM, and here are none")
    }
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    virtualTokens.fields.merging(
      [
        "encoder_reparameterization_type": .string(encoderReparameterizationType.rawValue),
        "encoder_hidden_size": encoderHiddenSize.map(JSONValue.integer) ?? .null,
        "encoder_num_layers": .integer(encoderNumLayers), "encoder_dropout": .number(encoderDropout),
      ], uniquingKeysWith: { $1 })
  }

  public var virtualTokenCount: Int { virtualTokens.count }

  public mutating func complete(for model: any PretrainedModel) throws {
    try virtualTokens.complete(for: model, areKeysAndValues: false)
    encoderHiddenSize = encoderHiddenSize ?? model.hiddenSize
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let encoder = try PromptEncoder(self, width: model.hiddenSize, device: model.device)
    return VirtualTokenAdapter(encoder, count: virtualTokens.count, width: model.hiddenSize, model: model) {
      .embeddings($0)
    }
  }
}

/// The network of P-tuning, with PEFT's names.
final class PromptEncoder: Module, VirtualTokenEncoder {
  let embedding: Embedding  // [n, hidden]
  let lstmHead: LSTM?
  let mlpHead: [Module]

  var isTraining = false {
    didSet { lstmHead?.isTraining = isTraining }
  }

  init(_ configuration: PromptEncoderConfig, width: Int, device: Device) throws {
    let inner = configuration.encoderHiddenSize ?? width
    embedding = try .initialized(configuration.virtualTokens.count, width, device: device)
    let widths: [Int]
    switch configuration.encoderReparameterizationType {
    case .mlp:
      lstmHead = nil
      widths = [width, inner, inner, width]
    case .lstm:
      lstmHead = try LSTM(
        inputSize: width, hiddenSize: inner, layerCount: configuration.encoderNumLayers,
        dropout: configuration.encoderDropout, device: device)
      widths = [2 * inner, 2 * inner, width]
    }
    // ReLU between, so that the numbers of the layers are those of PEFT's Sequential.
    mlpHead = try zip(widths, widths.dropFirst()).enumerated().flatMap { index, sizes -> [Module] in
      (index > 0 ? [ReLU()] : []) + [try Linear.initialized(sizes.0, sizes.1, device: device)]
    }
  }

  var isTable: Bool { false }

  func callAsFunction() throws -> Tensor {
    let states = try lstmHead?(embedding.weight.value) ?? embedding.weight.value
    return try mlpHead.reduce(states) { states, layer in
      try (layer as? Linear)?(states) ?? states.relu()
    }
  }

  /// A place between linear layers, which has no parameters.
  private final class ReLU: Module {}
}
