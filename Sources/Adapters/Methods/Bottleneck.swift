import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// Bottleneck adapters: a small network with a narrow middle behind attention and feed-forward, or beside them,
/// y + s · W_up f(W_down x + b_down) + s · b_up.
///
/// Where it stands and what it reads, x, make the published kinds: behind both sublayers, reading what they gave (Houlsby et
/// al. 2019, arXiv:1902.00751: `mh_adapter`, `output_adapter`); behind the feed-forward alone, reading its output with the
/// residual (Pfeiffer et al. 2020, arXiv:2005.00247: `original_ln_before`); beside a sublayer, reading what it read (He et al.
/// 2021, arXiv:2110.04366: `is_parallel`). PEFT has no such method; the options are named as in AdapterHub, whose kinds these
/// are, and the file's format is Graft's own: see docs/methods.md.
///
/// W_up and the biases start at zero, so that training starts at the base model.
public struct BottleneckConfig: AdapterConfiguration, Hashable {
  /// Whether attention has an adapter.
  public var mhAdapter: Bool
  /// Whether the feed-forward part has one.
  public var outputAdapter: Bool
  /// How many times narrower the middle is than the model.
  public var reductionFactor: Double
  /// The activation f, by its name in `config.json`.
  public var nonLinearity: String
  /// Whether the adapter reads the sublayer's output with the residual added, instead of the output alone.
  public var originalLnBefore: Bool
  /// Whether the adapter reads what the sublayer read.
  public var isParallel: Bool
  /// What the adapter's output is multiplied by, s.
  public var scaling: Double
  /// The probability of dropping features of the adapter's output in training.
  public var dropout: Double
  /// Indices of the layers that have adapters; nil is all.
  public var layersToTransform: [Int]?
  public var common: CommonAdapterSettings

  public init(
    mhAdapter: Bool = true, outputAdapter: Bool = true, reductionFactor: Double = 16,
    nonLinearity: String = "relu",
    originalLnBefore: Bool = false, isParallel: Bool = false, scaling: Double = 1, dropout: Double = 0,
    layersToTransform: [Int]? = nil, modulesToSave: [String]? = nil, taskType: String? = "CAUSAL_LM"
  ) {
    self.mhAdapter = mhAdapter
    self.outputAdapter = outputAdapter
    self.reductionFactor = reductionFactor
    self.nonLinearity = nonLinearity
    self.originalLnBefore = originalLnBefore
    self.isParallel = isParallel
    self.scaling = scaling
    self.dropout = dropout
    self.layersToTransform = layersToTransform
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  private static let activations = ["relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "swish"]

  public static let obstacleToCombining =
    "whose networks are not linear, so that no network of their size does what several do"

  public static let method = AdapterMethod(
    peftType: "BOTTLENECK",
    summary:
      "Bottleneck adapters: a small network behind attention and feed-forward, or beside them (arXiv 1902.00751, "
      + "2005.00247, 2110.04366). PEFT has none; options as in AdapterHub, format in docs/methods.md.",
    options: [
      .init("mh_adapter", .boolean, default: true, "Put an adapter at attention."),
      .init("output_adapter", .boolean, default: true, "Put an adapter at the feed-forward part."),
      .init(
        "reduction_factor", .number, default: 16,
        "How many times narrower than the model the adapter's middle is."),
      .init("non_linearity", .choice(activations), default: "relu", "The activation in the middle."),
      .init(
        "original_ln_before", .boolean, default: false,
        "Read the output of attention or feed-forward with the residual added; `false` reads the output alone."
      ),
      .init(
        "is_parallel", .boolean, default: false,
        "Read what attention or feed-forward read, beside them instead of behind."),
      .init("scaling", .number, default: 1.0, "What the adapter's output is multiplied by."),
      .init(
        "dropout", .number, default: 0.0, "Probability of dropping an output of the adapter in training."),
      .init(
        "layers_to_transform", .optional(.any([.integer, .list(.integer)])), default: nil,
        "Indices of the blocks to adapt; `null` is all."),
    ] + CommonAdapterSettings.options
  ) { try BottleneckConfig($0) }

  public init(_ fields: AdapterFields) throws {
    self.init(
      mhAdapter: try fields.bool("mh_adapter", default: true),
      outputAdapter: try fields.bool("output_adapter", default: true),
      reductionFactor: try fields.number("reduction_factor", default: 16),
      nonLinearity: try fields.string("non_linearity") ?? "relu",
      originalLnBefore: try fields.bool("original_ln_before", default: false),
      isParallel: try fields.bool("is_parallel", default: false),
      scaling: try fields.number("scaling", default: 1), dropout: try fields.number("dropout", default: 0),
      layersToTransform: try fields.integers("layers_to_transform"))
    common = try CommonAdapterSettings(fields)
    guard mhAdapter || outputAdapter else {
      throw fields.invalid(
        "output_adapter", remedy: "set it or mh_adapter to true: one of them has to have an adapter")
    }
    guard reductionFactor > 0 else {
      throw fields.invalid("reduction_factor", remedy: "write a number above 0")
    }
    guard Self.activations.contains(nonLinearity) else {
      throw fields.invalid(
        "non_linearity", remedy: "write one of \(Self.activations.joined(separator: ", "))")
    }
    guard !(isParallel && originalLnBefore) else {
      throw fields.invalid(
        "original_ln_before", remedy: "write false: an adapter that is_parallel reads what its sublayer read")
    }
    guard scaling != 0 else {
      throw fields.invalid("scaling", remedy: "write another number: with 0 the adapter does nothing")
    }
    guard (0..<1).contains(dropout) else {
      throw fields.invalid("dropout", remedy: "write a probability from 0 to below 1")
    }
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    [
      "mh_adapter": .bool(mhAdapter), "output_adapter": .bool(outputAdapter),
      "reduction_factor": .number(reductionFactor), "non_linearity": .string(nonLinearity),
      "original_ln_before": .bool(originalLnBefore), "is_parallel": .bool(isParallel),
      "scaling": .number(scaling),
      "dropout": .number(dropout),
      "layers_to_transform": layersToTransform.map { .array($0.map(JSONValue.integer)) } ?? .null,
    ]
  }

  // MARK: The adapter

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let width = Double(model.hiddenSize) / reductionFactor
    guard width >= 1, width <= 1e6 else {
      throw AdapterError(
        "`reduction_factor` is \(reductionFactor), and this \(model.typeName) is \(model.hiddenSize) wide: the adapter's middle "
          + "would have \(width) features. Write a number from 1 to \(model.hiddenSize).")
    }
    let parts = try sublayers(of: model).map { path, sublayer in
      try BottleneckPart(
        path: path, sublayer: sublayer, self, hiddenSize: model.hiddenSize, width: Int(width),
        device: model.device)
    }
    return ComposedAdapter(targets: parts.map(\.path), parts: parts)
  }

  private func sublayers(of model: any PretrainedModel) throws -> [(path: String, sublayer: any Sublayer)] {
    let all = model.namedModules().compactMap { path, module in
      (module as? any Sublayer).map { (path: path, sublayer: $0, layer: path.firstNumber) }
    }
    guard !all.isEmpty else {
      throw AdapterError(
        "This \(model.typeName) does not say what its attention and feed-forward parts are, so that bottleneck adapters have "
          + "no place. Choose another method, such as LORA.")
    }
    let layers = Set(all.compactMap(\.layer))
    if let unknown = layersToTransform?.first(where: { !layers.contains($0) }) {
      throw AdapterError(
        "`layers_to_transform` names the layer \(unknown), and this \(model.typeName) has those from 0 to \(layers.max() ?? 0)."
      )
    }
    return all.compactMap { path, sublayer, layer in
      let isChosen = layersToTransform.map { chosen in layer.map(chosen.contains) ?? false } ?? true
      let isKind = sublayer.kind == .attention ? mhAdapter : outputAdapter
      return isChosen && isKind ? (path, sublayer) : nil
    }
  }
}

/// The adapter at one sublayer.
final class BottleneckPart: AdapterPart, SublayerAdapter {
  let path: String
  private let sublayer: any Sublayer
  private let configuration: BottleneckConfig
  private let activation: Activation
  private let down: Linear  // hidden → width
  private let up: Linear  // width → hidden
  var isTraining = false

  init(
    path: String, sublayer: any Sublayer, _ configuration: BottleneckConfig, hiddenSize: Int, width: Int,
    device: Device
  ) throws {
    guard let activation = Activation(configuration.nonLinearity) else {
      throw AdapterError(
        "`non_linearity` is \(configuration.nonLinearity), which Graft does not know; relu is one.")
    }
    self.path = path
    self.sublayer = sublayer
    self.configuration = configuration
    self.activation = activation
    down = try .initialized(hiddenSize, width, device: device)
    up = try .initialized(width, hiddenSize, device: device)
    for parameter in [down.bias, up.weight.parameter, up.bias] { try parameter?.value.fillInPlace(0) }
  }

  var parameters: [(key: String, parameter: Parameter)] {
    [("adapter_down", down), ("adapter_up", up)].flatMap { name, layer in
      layer.namedParameters().map { ("\(path).\(name).\($0.path)", $0.parameter) }
    }
  }

  func printedLayer(at path: String) -> PrintedLayer? {
    guard path == self.path else { return nil }
    return PrintedLayer(
      "bottleneck.Adapter",
      parameters: parameters.map { (String($0.key.dropFirst(path.count + 1)), $0.parameter) })
  }

  func insert() { sublayer.adapters.append(self) }
  func remove() { sublayer.adapters.removeAll { $0 === self } }

  func forward(output: Tensor, input: Tensor, residual: Tensor) throws -> Tensor {
    let read =
      try configuration.isParallel ? input : configuration.originalLnBefore ? output + residual : output
    var change = try project(activation(project(read, by: down)), by: up)
    if isTraining, configuration.dropout > 0 { change = try change.dropout(configuration.dropout) }
    return try output + change * configuration.scaling
  }

  /// In the type that the model computes in.
  private func project(_ input: Tensor, by layer: Linear) throws -> Tensor {
    let weight = try layer.weight.dense().to(input.dtype)
    return try input.linear(weight, bias: layer.bias?.value(like: input))
  }

  func merge() throws {
    throw AdapterError(
      "\(path): a bottleneck adapter has an activation in its middle, and no weight of the base computes that. Use the adapter "
        + "as it is, or train one whose method changes weights, such as LORA.")
  }

  func unmerge() {}
}

extension String {
  /// The first component of a path that is a number: `model.layers.3.mlp` → 3.
  fileprivate var firstNumber: Int? { split(separator: ".").lazy.compactMap { Int($0) }.first }
}
