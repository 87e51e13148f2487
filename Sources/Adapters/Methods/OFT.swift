import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// OFT: the input of a layer is turned by a block-diagonal orthogonal matrix, which keeps the angles between the neurons
/// (Qiu et al. 2023, arXiv:2306.07280).
///
/// y = W (R x) + b with R = diag(R₁, …, R_r) of blocks `[size, size]`. Each block is the Cayley transform of a
/// skew-symmetric matrix, of which the upper triangle is trained, starting at zero.
public struct OFTConfig: AdapterConfiguration, Hashable {
  /// Blocks per layer; 0 takes as many as ``oftBlockSize`` makes.
  public var r: Int
  /// Rows of a block; 0 takes what ``r`` makes of the layer.
  public var oftBlockSize: Int
  /// The share of the blocks that stand still in a training step.
  public var moduleDropout: Double
  public var targets: TargetModules
  public var bias: TrainedBiases
  public var initWeights: Bool
  /// Whether the rotation is kept within ``eps``.
  public var coft: Bool
  public var eps: Double
  /// Whether all blocks of a layer are one.
  public var blockShare: Bool
  /// Whether the inverse in the Cayley transform is approximated by a series.
  public var useCayleyNeumann: Bool
  public var numCayleyNeumannTerms: Int
  public var common: CommonAdapterSettings

  public init(
    r: Int = 0, oftBlockSize: Int = 32, moduleDropout: Double = 0, targetModules: ModuleSelection? = nil,
    excludeModules: ModuleSelection? = nil, bias: TrainedBiases = .none, modulesToSave: [String]? = nil,
    initWeights: Bool = true, layersToTransform: [Int]? = nil, layersPattern: [String]? = nil,
    coft: Bool = false, eps: Double = 6e-5, blockShare: Bool = false, useCayleyNeumann: Bool = true,
    numCayleyNeumannTerms: Int = 5, taskType: String? = "CAUSAL_LM"
  ) {
    self.r = r
    self.oftBlockSize = oftBlockSize
    self.moduleDropout = moduleDropout
    targets = TargetModules(
      targetModules: targetModules, excludeModules: excludeModules, layersToTransform: layersToTransform,
      layersPattern: layersPattern)
    self.bias = bias
    self.initWeights = initWeights
    self.coft = coft
    self.eps = eps
    self.blockShare = blockShare
    self.useCayleyNeumann = useCayleyNeumann
    self.numCayleyNeumannTerms = numCayleyNeumannTerms
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let obstacleToCombining = "whose rotations follow one another and do not add up"

  public static let tunerName = "OFTModel"

  public static let method = AdapterMethod(
    peftType: "OFT",
    summary:
      "OFT: a layer's input is turned by a block-diagonal orthogonal matrix (arXiv 2306.07280).",
    options: [
      .init("r", .integer, default: 0, "Number of blocks; give this or `oft_block_size`, the other is 0."),
      .init(
        "oft_block_size", .integer, default: 32,
        "Rows of a block; a size that does not divide a layer's input is replaced by the nearest that does."),
      .init(
        "module_dropout", .number, default: 0.0,
        "Share of the blocks that stand still in a training step; PEFT 0.21 has the option and does not apply it."
      ),
    ] + TargetModules.options() + [
      TrainedBiases.option(method: "oft"),
      .init(
        "init_weights", .boolean, default: true,
        "Start without a rotation, so that training starts at the base model; `false` starts at random."),
      .init("coft", .boolean, default: false, "Keep the rotation within `eps`: constrained OFT."),
      .init("eps", .number, default: 6e-5, "How far constrained OFT may turn."),
      .init("block_share", .boolean, default: false, "Use one block for all of a layer."),
      .init(
        "use_cayley_neumann", .boolean, default: true,
        "Approximate the inverse in the Cayley transform by a series: faster, and only nearly orthogonal."),
      .init("num_cayley_neumann_terms", .integer, default: 5, "Terms of that series."),
      .fanInFanOut,
    ] + CommonAdapterSettings.options
  ) { try OFTConfig($0) }

  public init(_ fields: AdapterFields) throws {
    r = try fields.integer("r", default: 0, minimum: 0, maximum: LoRAConfig.maximumRank)
    oftBlockSize = try fields.integer(
      "oft_block_size", default: 32, minimum: 0, maximum: LoRAConfig.maximumRank)
    guard (r == 0) != (oftBlockSize == 0) else {
      throw fields.invalid(
        r == 0 ? "oft_block_size" : "r",
        remedy: "give either `r`, the number of blocks, or `oft_block_size`, and write 0 for the other")
    }
    moduleDropout = try fields.probability("module_dropout")
    targets = try TargetModules(fields)
    bias = try TrainedBiases(fields, method: "oft")
    initWeights = try fields.bool("init_weights", default: true)
    coft = try fields.bool("coft", default: false)
    eps = try fields.number("eps", default: 6e-5)
    guard eps > 0 else { throw fields.invalid("eps", remedy: "write a number above 0") }
    blockShare = try fields.bool("block_share", default: false)
    useCayleyNeumann = try fields.bool("use_cayley_neumann", default: true)
    numCayleyNeumannTerms = try fields.integer("num_cayley_neumann_terms", default: 5, maximum: 1000)
    common = try CommonAdapterSettings(fields)
    try fields.refuseFanInFanOut()
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    targets.fields().merging([
      "r": .integer(r), "oft_block_size": .integer(oftBlockSize), "module_dropout": .number(moduleDropout),
      "bias": .string(bias.name(method: "oft")), "init_weights": .bool(initWeights), "coft": .bool(coft),
      "eps": .number(eps), "block_share": .bool(blockShare), "use_cayley_neumann": .bool(useCayleyNeumann),
      "num_cayley_neumann_terms": .integer(numCayleyNeumannTerms), "fan_in_fan_out": false,
    ]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let chosen = try targets.resolve(
      in: model, defaults: DefaultTargets.attention, modulesToSave: common.modulesToSave)
    var parts: [any AdapterPart] = []
    var companions: [(key: String, tensor: Tensor)] = []
    for (path, module) in chosen {
      switch module {
      case let layer as Linear:
        let rotation = try OFTRotation(width: layer.inFeatures, self, device: model.device)
        parts.append(LinearPart(path: path, layer: layer, change: OFTLinear(rotation)))
        if layer === model.head {
          companions.append(("\(path).base_layer.weight", try layer.weight.dense()))
        }
      case let table as Embedding:
        let rotation = try OFTRotation(width: table.weight.shape[1], self, device: model.device)
        parts.append(EmbeddingPart(path: path, table: table, change: OFTEmbedding(rotation)))
        companions.append(("\(path).base_layer.weight", try table.dense()))
      default:
        throw AdapterError(
          "`target_modules` matches \(path), a \(module.typeName); OFT works on linear layers and embeddings. Name modules "
            + "within it.")
      }
    }
    let paths = chosen.map(\.path)
    parts += try bias.replacements(in: model, beside: paths) as [any AdapterPart]
    return ComposedAdapter(targets: paths, parts: parts, companions: companions)
  }

  /// Number and size of the blocks of a layer of `width` features.
  func blocks(_ width: Int) -> (count: Int, size: Int) {
    if r == 0 {
      let size = OFTConfig.nearestDivisor(of: width, to: oftBlockSize)
      return (width / size, size)
    }
    let count = OFTConfig.nearestDivisor(of: width, to: r)
    return (count, width / count)
  }

  /// The divisor of `width` that is nearest to `wanted`, of two as near the smaller.
  static func nearestDivisor(of width: Int, to wanted: Int) -> Int {
    guard wanted < width else { return width }
    let above = (wanted...width).first { width % $0 == 0 } ?? width
    let below = stride(from: wanted, through: 1, by: -1).first { width % $0 == 0 } ?? 1
    return wanted - below <= above - wanted ? below : above
  }
}

/// A block-diagonal rotation of vectors of one width.
final class OFTRotation {
  let weight: Parameter  // [blocks, size (size − 1) / 2]
  private let count: Int
  private let size: Int
  private let configuration: OFTConfig
  /// Where each element of a block lies in a row of ``weight``; elements on and below the diagonal at the zero behind it.
  private let places: Tensor  // [size · size]
  var isTraining = false

  init(width: Int, _ configuration: OFTConfig, device: Device) throws {
    self.configuration = configuration
    (count, size) = configuration.blocks(width)
    let elements = size * (size - 1) / 2
    let shape = [configuration.blockShare ? 1 : count, elements]
    weight = Parameter(
      try configuration.initWeights
        ? .zeros(shape, device: device) : .normal(shape, standardDeviation: 0.1, device: device))
    try weight.setTrainable(true)
    var places = [Int64](repeating: Int64(elements), count: size * size)
    var next: Int64 = 0
    for row in 0..<size {
      for column in row + 1..<max(size, row + 1) {
        places[row * size + column] = next
        next += 1
      }
    }
    self.places = try Tensor(places, device: device)
  }

  /// OFT's layers have the places of both kinds; dropout stands at linear layers only.
  func printed(_ name: String, isEmbedding: Bool) -> PrintedLayer {
    let module = PrintedModule("OFTRotationModule")
    return PrintedLayer(
      name,
      slots: [
        .init("oft_R", .module(isEmbedding ? nil : module)),
        .init("oft_embedding_R", .module(isEmbedding ? module : nil)),
        isEmbedding
          ? .init("oft_dropout", .module(nil))
          : .multiplicativeDropout("oft_dropout", configuration.moduleDropout),
      ])
  }

  /// Vectors `[…, width]`, turned, or turned back.
  func callAsFunction(_ vectors: Tensor, back: Bool = false) throws -> Tensor {
    var turn = try change()  // [blocks, size, size]
    if back { turn = try turn.transposed() }
    // x + x (R − I): rounded to bf16, R itself would lose what is near to one.
    turn = try turn.to(vectors.dtype)
    let rows = try vectors.reshaped(-1, count, size)
    let moved =
      try configuration.blockShare
      ? rows.reshaped(-1, size).matmul(turn.reshaped(size, size))
      : rows.transposed(0, 1).matmul(turn).transposed(0, 1)
    return try vectors + moved.reshaped(vectors.shape)
  }

  /// R − I.
  private func change() throws -> Tensor {
    let skew = try skewSymmetric(constrained())
    let rotation =
      try configuration.useCayleyNeumann
      ? Cayley.neumann(skew, terms: configuration.numCayleyNeumannTerms) : Cayley.exact(skew)
    let change = try rotation - Cayley.identity(size, device: rotation.device)
    let still = Int(configuration.moduleDropout * Double(count))
    guard isTraining, still > 0, !configuration.blockShare else { return change }
    let places = try Cayley.randomPlaces(still, of: count, device: change.device)
    return try change * (places * -1 + 1).reshaped(count, 1, 1)
  }

  private func skewSymmetric(_ rows: Tensor) throws -> Tensor {
    let padded = try Tensor.concatenated(
      [rows, .zeros([rows.size(0), 1], device: rows.device)], dimension: 1)
    let upper = try padded.selecting(places, dimension: 1).reshaped(-1, size, size)
    return try upper - upper.transposed()
  }

  /// The trained elements, scaled down to the norm that constrained OFT allows. The gradient is that of no scaling, as in PEFT,
  /// and in training the scaled ones are what goes on being trained.
  private func constrained() throws -> Tensor {
    guard configuration.coft else { return weight.value }
    let projected = try withoutGradient { () throws -> Tensor in
      let current = try weight.value.detached()
      let limit = configuration.eps / Double(current.size(0)).squareRoot()
      // Every element stands in the matrix twice.
      let norms = try (current.squared().sum(1, keepingDimension: true) * 2).squareRoot()  // [blocks, 1]
      let scaled = try current * (norms.reciprocal() * limit)
      return try current.selected(where: (norms - limit).greater(0).logicalNot(), else: scaled)
    }
    if isTraining {
      try withoutGradient { try weight.value.copyInPlace(projected) }
      return weight.value
    }
    return try weight.value + withoutGradient { try projected - weight.value.detached() }
  }
}

/// The rotation before one linear layer.
final class OFTLinear: LinearChange {
  private let rotation: OFTRotation

  init(_ rotation: OFTRotation) {
    self.rotation = rotation
  }

  var parameters: [(name: String, parameter: Parameter)] { [("oft_R.weight", rotation.weight)] }
  var printed: PrintedLayer { rotation.printed("oft.Linear", isEmbedding: false) }

  var isTraining: Bool {
    get { rotation.isTraining }
    set { rotation.isTraining = newValue }
  }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    try next(rotation(input))
  }

  /// W Rᵀ in the convention of rows, x R.
  func merged(_ weight: Tensor) throws -> Tensor { try rotation(weight, back: true) }
}

/// The rotation behind one embedding.
final class OFTEmbedding: EmbeddingChange {
  private let rotation: OFTRotation

  init(_ rotation: OFTRotation) {
    self.rotation = rotation
  }

  var parameters: [(name: String, parameter: Parameter)] { [("oft_embedding_R.weight", rotation.weight)] }
  var printed: PrintedLayer { rotation.printed("oft.Embedding", isEmbedding: true) }

  var isTraining: Bool {
    get { rotation.isTraining }
    set { rotation.isTraining = newValue }
  }

  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor { try rotation(output) }

  func merged(_ table: Tensor) throws -> Tensor { try rotation(table) }
}
