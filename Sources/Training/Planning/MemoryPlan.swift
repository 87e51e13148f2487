import Adapters
import Models
import NeuralNetworks
import Torch

/// What a training run takes of a device's memory, part by part, from shapes alone.
///
/// Parts that are fixed by the settings are exact: weights, adapter, gradients, optimizer. Activations and workspace follow
/// what the CPU kernels keep for the backward pass and hold at one time; ``batch`` is the largest batch.
public struct MemoryPlan: Sendable, Hashable, Codable {
  /// The largest batch of the run.
  public struct Batch: Sendable, Hashable, Codable {
    public var tokens: Int
    /// Tokens with a label.
    public var supervised: Int
    /// Whether it is one of several whose gradients are summed, so that it meets those of the passes before.
    public var isAccumulated: Bool

    public init(tokens: Int, supervised: Int, isAccumulated: Bool = true) {
      self.tokens = tokens
      self.supervised = supervised
      self.isAccumulated = isAccumulated
    }
  }

  /// The base's weights, in bytes; likewise below.
  public var weights = 0
  /// Trained parameters, in fp32 but where bf16 weights are trained themselves, and their gradients.
  public var adapter = 0
  public var gradients = 0
  public var optimizer = 0
  /// What the forward pass keeps for the backward pass.
  public var activations = 0
  /// What is held at one time beside that: a piece of the logits, gradients on their way.
  public var workspace = 0
  /// What the allocator cannot use, between buffers of batches of other sizes.
  public var fragmentation = 0
  /// The program and its engine, with the rows as tokens.
  public var program = 0

  public var batch: Batch
  public var trainableParameters = 0
  public var allParameters = 0
  /// Whether the optimizer's states can leave memory: they are counted, but need not fit. Those that lie elsewhere than on the device are
  /// counted as one parameter's, which come to it in turn.
  public var isPaged = false

  public var total: Int {
    weights + adapter + gradients + optimizer + activations + workspace + fragmentation + program
  }

  /// What the engine's products and threads come to hold of their own once they run, and the share of buffers lost between
  /// others: both measured, over the table of docs/memory.md.
  private static let scratch = 50_000_000
  private static let unusable = 0.1

  /// The parts with what they are called, in the order of the report.
  public var parts: [(name: String, bytes: Int)] {
    [
      ("weights", weights), ("adapter", adapter), ("gradients", gradients), ("optimizer", optimizer),
      ("activations", activations), ("workspace", workspace), ("fragmentation", fragmentation),
      ("program", program),
    ]
  }

  /// - Parameters:
  ///   - model: a tree of shapes (`AutoModel.structure`) with its adapters.
  ///   - format: how the weights are held.
  ///   - device: where the run is.
  ///   - program: bytes that the process takes before the model is loaded.
  ///   - mapped: bytes of weights that stay in their file.
  /// - Throws: ``TrainingError`` for a model that is no decoder, `ConfigurationError` for the optimizer's options.
  public init(
    _ model: PEFTModel, arguments: TrainingArguments, format: WeightFormat, batch: Batch,
    device: Device.Kind = .cpu,
    program: Int = 0, mapped: Int = 0
  ) throws {
    let base = model.base
    guard let decoder = base.backbone as? DecoderModel else {
      throw TrainingError(
        "`graft plan` knows what decoders take, and this is a \(model.base.typeName). Try a few steps (`--set max_steps=3`): "
          + "the progress shows the memory.")
    }
    self.batch = batch
    self.program = program + Self.scratch
    let counts = model.parameterCounts
    (trainableParameters, allParameters) = counts

    // Without what adapters put in the place of weights.
    let active = model.activeAdapters
    try model.setAdapters([])
    weights = format.bytes(of: base) - mapped
    try model.setAdapters(active)

    let trained = model.trainableParameters.map(\.parameter.value)
    adapter = trained.reduce(0) { $0 + $1.byteCount }
    let rule = try arguments.updateRule()
    let states = trained.map { parameter in
      rule.state(of: parameter.shape).reduce(0) { $0 + $1.shape.reduce($1.dtype.byteCount, *) }
    }
    switch try arguments.statePlacement(on: device) {
    case .device: optimizer = states.reduce(0, +)
    // Pages of a file are the processor's memory as long as there is enough.
    case .disk where device == .cpu:
      optimizer = states.reduce(0, +)
      isPaged = true
    case .host, .disk:
      // That of the parameter that is updated and the one that is on its way in, or out.
      optimizer = states.sorted().suffix(2).reduce(0, +)
      isPaged = true
    }

    let shape = try DecoderActivations(base, decoder, elementSize: format.computeType.byteCount, arguments)
    activations = shape.kept(batch) + shape.copies
    workspace = shape.workspace(batch)
    // Those of one pass take the place of what they are made from.
    gradients = batch.isAccumulated ? adapter : max(0, adapter - activations - workspace)
    fragmentation = Int(Double(activations + workspace) * Self.unusable)
  }
}

extension PretrainedModel {
  fileprivate func role(of parameter: Parameter) -> WeightFormat.Role {
    if parameter === inputEmbedding.weight || parameter === head.weight.parameter { return .table }
    return parameter.shape.count == 2 ? .layer : .vector
  }
}

/// How weights are held, and what is computed in.
public struct WeightFormat: Sendable, Hashable {
  /// What a weight is to the model.
  package enum Role {
    /// The weight of a linear layer.
    case layer
    /// The input or the output embedding.
    case table
    /// A norm, a bias.
    case vector
  }

  public let name: String
  /// Of a weight of a linear layer, its scales included.
  public let bitsPerWeight: Double
  /// Of an embedding; nil in the type that is computed in, as bitsandbytes leaves it.
  public var bitsPerTableWeight: Double?
  public let computeType: DType

  /// Weights in the type that is computed in.
  public static func dense(_ dtype: DType) -> WeightFormat {
    WeightFormat(name: dtype.torchName, bitsPerWeight: 8 * Double(dtype.byteCount), computeType: dtype)
  }

  /// The formats that a plan can assume, by name: the widths are those of the formats' definitions.
  ///
  /// NF4 has a scale in fp32 for 64 weights, 0.5 bits more; doubly quantized ones (Dettmers et al. 2023, arXiv:2305.14314) 8 bits for
  /// 64 and an fp32 for 256 of those. GGUF's blocks are 256 weights, of 32 for Q4_0 and Q8_0.
  public static let packed: [(name: String, bits: Double)] = [
    ("nf4", 4 + 32 / 64.0), ("nf4-double", 4 + 8 / 64.0 + 32 / (64.0 * 256)), ("int8", 8),
    ("q4_0", 4.5), ("q8_0", 8.5), ("q2_k", 2.625), ("q3_k", 3.4375), ("q4_k", 4.5), ("q5_k", 5.5),
    ("q6_k", 6.5625),
  ]

  /// Weights in one of those, computed with in `dtype`; nil when there is none of this name.
  public static func packed(_ name: String, computeType: DType) -> WeightFormat? {
    packed.first { $0.name == name.lowercased() }.map {
      WeightFormat(name: $0.name, bitsPerWeight: $0.bits, computeType: computeType)
    }
  }

  /// What bitsandbytes makes of weights; FP4 takes what NF4 does.
  static func bitsAndBytes(_ settings: BitsAndBytesConfig, computeType: DType) -> WeightFormat {
    let name: String
    switch settings.form {
    case .fourBit(_, let doubled): name = doubled ? "nf4-double" : "nf4"
    case .int8: name = "int8"
    }
    guard let format = packed(name, computeType: computeType) else {
      preconditionFailure("\(name) is listed")
    }
    return format
  }

  /// The blocks of a GGUF file as they lie there, the mean over its matrices; nil when the source is none.
  package static func packed(_ source: PretrainedSource, computeType: DType) throws -> WeightFormat? {
    guard let bits = try source.packedBits(dense: computeType) else { return nil }
    var format = WeightFormat(name: "gguf_packed", bitsPerWeight: bits.layers, computeType: computeType)
    format.bitsPerTableWeight = bits.tables
    return format
  }

  /// Bytes of a model's weights in this format; of those that are trained, as they are.
  package func bytes(of model: any PretrainedModel) -> Int {
    model.parameters().reduce(0) { sum, parameter in
      sum
        + (parameter.isTrainable
          ? parameter.value.byteCount : bytes(of: parameter.shape, role: model.role(of: parameter)))
    }
  }

  package func bytes(of shape: [Int], role: Role) -> Int {
    let count = shape.reduce(1, *)
    let bits =
      switch role {
      case .layer: bitsPerWeight
      case .table: bitsPerTableWeight ?? 8 * Double(computeType.byteCount)
      case .vector: 8 * Double(computeType.byteCount)
      }
    return Int((Double(count) * bits / 8).rounded(.up))
  }
}
