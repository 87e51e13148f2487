import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// BOFT: orthogonal fine-tuning by a product of sparse rotations, each block-diagonal in another order of the features, so
/// that few parameters connect all of them; and a scale for every output (Liu et al. 2023, arXiv:2311.06243).
///
/// y = s ⊙ (W (B x)) + b with B = Πᵢ Pᵢ diag(Rᵢ) Pᵢᵀ; the blocks are Cayley transforms, starting at I, and s `[out, 1]` at one.
/// With one factor it is OFT with a scale.
public struct BOFTConfig: AdapterConfiguration, Hashable {
  /// Rows of a block; 0 takes what ``boftBlockNum`` makes of the layer.
  public var boftBlockSize: Int
  /// Blocks per factor; 0 takes as many as ``boftBlockSize`` makes.
  public var boftBlockNum: Int
  /// Factors of the product.
  public var boftNButterflyFactor: Int
  /// The share of the blocks of one factor that stand still in a training step.
  public var boftDropout: Double
  public var targets: TargetModules
  public var bias: TrainedBiases
  public var initWeights: Bool
  public var common: CommonAdapterSettings

  public init(
    boftBlockSize: Int = 4, boftBlockNum: Int = 0, boftNButterflyFactor: Int = 1, boftDropout: Double = 0,
    targetModules: ModuleSelection? = nil, excludeModules: ModuleSelection? = nil,
    bias: TrainedBiases = .none, modulesToSave: [String]? = nil, initWeights: Bool = true,
    layersToTransform: [Int]? = nil, layersPattern: [String]? = nil, taskType: String? = "CAUSAL_LM"
  ) {
    self.boftBlockSize = boftBlockSize
    self.boftBlockNum = boftBlockNum
    self.boftNButterflyFactor = boftNButterflyFactor
    self.boftDropout = boftDropout
    targets = TargetModules(
      targetModules: targetModules, excludeModules: excludeModules, layersToTransform: layersToTransform,
      layersPattern: layersPattern)
    self.bias = bias
    self.initWeights = initWeights
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let obstacleToCombining = "whose rotations follow one another and do not add up"

  public static let tunerName = "BOFTModel"

  public static let method = AdapterMethod(
    peftType: "BOFT",
    summary:
      "BOFT: a layer's input is turned by a product of sparse orthogonal matrices, its output scaled (arXiv 2311.06243).",
    options: [
      .init(
        "boft_block_size", .integer, default: 4,
        "Rows of a block; must divide the input of every target. Give this or `boft_block_num`, the other is 0."
      ),
      .init("boft_block_num", .integer, default: 0, "Number of blocks of a factor."),
      .init(
        "boft_n_butterfly_factor", .integer, default: 1,
        "Factors of the product; PEFT takes more than one only on a GPU for which it can compile its extension."
      ),
      .init(
        "boft_dropout", .number, default: 0.0,
        "Share of the blocks of one factor that stand still in a training step."),
    ] + TargetModules.options() + [
      TrainedBiases.option(method: "boft"),
      .init(
        "init_weights", .boolean, default: true,
        "Start without a rotation, so that training starts at the base model; `false` starts at random."),
      .fanInFanOut,
    ] + CommonAdapterSettings.options
  ) { try BOFTConfig($0) }

  public init(_ fields: AdapterFields) throws {
    boftBlockSize = try fields.integer(
      "boft_block_size", default: 4, minimum: 0, maximum: LoRAConfig.maximumRank)
    boftBlockNum = try fields.integer(
      "boft_block_num", default: 0, minimum: 0, maximum: LoRAConfig.maximumRank)
    guard (boftBlockSize == 0) != (boftBlockNum == 0) else {
      throw fields.invalid(
        boftBlockNum == 0 ? "boft_block_size" : "boft_block_num",
        remedy: "give either `boft_block_size` or `boft_block_num`, and write 0 for the other")
    }
    boftNButterflyFactor = try fields.integer("boft_n_butterfly_factor", default: 1, maximum: 16)
    boftDropout = try fields.probability("boft_dropout")
    targets = try TargetModules(fields)
    bias = try TrainedBiases(fields, method: "boft")
    initWeights = try fields.bool("init_weights", default: true)
    common = try CommonAdapterSettings(fields)
    try fields.refuseFanInFanOut()
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    targets.fields().merging([
      "boft_block_size": .integer(boftBlockSize), "boft_block_num": .integer(boftBlockNum),
      "boft_n_butterfly_factor": .integer(boftNButterflyFactor), "boft_dropout": .number(boftDropout),
      "bias": .string(bias.name(method: "boft")), "init_weights": .bool(initWeights),
      "fan_in_fan_out": false,
    ]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let method = LinearMethod(
      name: "BOFT", targets: targets, defaults: DefaultTargets.attention, modulesToSave: common.modulesToSave,
      biases: bias)
    return try method.adapter(for: model) { path, layer in
      try BOFTLinear(layer, blocks: blocks(layer.inFeatures, at: path), self, device: model.device)
    }
  }

  /// Number and size of the blocks of a layer of `width` features.
  ///
  /// - Throws: ``AdapterError`` naming the sizes that would fit.
  private func blocks(_ width: Int, at path: String) throws -> (count: Int, size: Int) {
    let (option, given) =
      boftBlockNum == 0 ? ("boft_block_size", boftBlockSize) : ("boft_block_num", boftBlockNum)
    // Every further factor joins pairs of halves of blocks.
    let joined = 1 << (boftNButterflyFactor - 1)
    func fits(_ size: Int) -> Bool {
      let count = width / size
      return width % size == 0 && count % joined == 0 && (joined == 1 || (count % 2 == 0 && size % 2 == 0))
    }
    guard width % given == 0, fits(boftBlockNum == 0 ? given : width / given) else {
      let sizes = (1...width).filter { fits($0) }.map { String(boftBlockNum == 0 ? $0 : width / $0) }
      throw AdapterError(
        "`\(option)` is \(given), which does not divide the \(width) inputs of \(path) as `boft_n_butterfly_factor` "
          + "\(boftNButterflyFactor) needs; "
          + (sizes.isEmpty
            ? "no size does, so lower the factor." : "those that do are \(sizes.joined(separator: ", "))."))
    }
    return boftBlockNum == 0 ? (width / given, given) : (given, width / given)
  }
}

/// The rotation and the scale at one linear layer.
final class BOFTLinear: LinearChange {
  let blocks: Parameter  // [factors, count, size, size]
  let scale: Parameter  // [out, 1]
  private let dropout: Double
  /// Of each factor where its features lie, and back.
  private let orders: [(there: Tensor, back: Tensor)]
  var isTraining = false

  init(_ layer: Linear, blocks: (count: Int, size: Int), _ configuration: BOFTConfig, device: Device) throws {
    let factors = configuration.boftNButterflyFactor
    let shape = [factors, blocks.count, blocks.size, blocks.size]
    let start = configuration.initWeights
    self.blocks = Parameter(
      try start ? .zeros(shape, device: device) : .normal(shape, standardDeviation: 0.1, device: device))
    scale = Parameter(
      try start
        ? .ones([layer.outFeatures, 1], device: device)
        : .normal([layer.outFeatures, 1], mean: 1, standardDeviation: 0.1, device: device))
    dropout = configuration.boftDropout
    orders = try (0..<factors).map { factor in
      let order = BOFTLinear.butterfly(blocks: blocks, factor: factor)
      var back = [Int64](repeating: 0, count: order.count)
      for (place, feature) in order.enumerated() { back[feature] = Int64(place) }
      return (try Tensor(back, device: device), try Tensor(order.map(Int64.init), device: device))
    }
  }

  /// The order of the features in which factor `factor` is block-diagonal: in runs of 2^factor blocks, the halves of
  /// blocks with even numbers first.
  static func butterfly(blocks: (count: Int, size: Int), factor: Int) -> [Int] {
    let width = blocks.count * blocks.size
    guard factor > 0 else { return Array(0..<width) }
    let (half, run) = (blocks.size / 2, blocks.size << factor)
    let halves = Array(0..<run / half)
    let order = (halves.filter { $0 % 2 == 0 } + halves.filter { $0 % 2 == 1 }).flatMap {
      $0 * half..<($0 + 1) * half
    }
    return stride(from: 0, to: width, by: run).flatMap { start in order.map { start + $0 } }
  }

  var parameters: [(name: String, parameter: Parameter)] { [("boft_R", blocks), ("boft_s", scale)] }

  var printed: PrintedLayer {
    PrintedLayer(
      "boft.Linear",
      slots: [.multiplicativeDropout("boft_dropout", dropout)]
        + PrintedLayer.Slot.parameters(parameters.map(\.name), parameters))
  }

  /// Rows `[…, in]` times the product of all factors, the last first, or times its transpose.
  private func turn(_ rows: Tensor, back: Bool = false) throws -> Tensor {
    let changes = try changes()
    let factors = back ? Array(changes.indices) : changes.indices.reversed()
    var flat = try rows.reshaped(-1, rows.size(-1))
    for factor in factors {
      // x + x (R − I): rounded to bf16, R itself would lose what is near to one.
      let change = try (back ? changes[factor].transposed() : changes[factor]).to(rows.dtype)
      let (count, size) = (change.size(0), change.size(1))
      let ordered = try flat.selecting(orders[factor].there, dimension: 1).reshaped(-1, count, size)
      let moved = try ordered.transposed(0, 1).matmul(change).transposed(0, 1)
        .reshaped(flat.shape).selecting(orders[factor].back, dimension: 1)
      flat = try flat + moved
    }
    return try flat.reshaped(rows.shape)
  }

  /// R − I of every factor, `[count, size, size]` each.
  private func changes() throws -> [Tensor] {
    let shape = blocks.shape
    let all = try blocks.value.reshaped(-1, shape[2], shape[3])
    let rotation = try Cayley.exact((all - all.transposed()) * 0.5)
    var changes = try (rotation - Cayley.identity(shape[2], device: all.device)).split(
      [Int](repeating: shape[1], count: shape[0]), dimension: 0)
    let still = Int(dropout * Double(shape[1]))
    if isTraining, still > 0 {
      let factor = min(Int(try Tensor.uniform([1]).item() * Double(shape[0])), shape[0] - 1)
      let places = try Cayley.randomPlaces(still, of: shape[1], device: all.device)
      changes[factor] = try changes[factor] * (places * -1 + 1).reshaped(shape[1], 1, 1)
    }
    return changes
  }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let output = try next(turn(input))
    let scale = try scale.value.reshaped(-1)
    guard let bias = try layer.bias?.value(like: output) else {
      return try (output * scale).to(output.dtype)
    }
    return try ((output - bias) * scale).to(output.dtype) + bias
  }

  func merged(_ weight: Tensor) throws -> Tensor { try turn(weight, back: true) * scale.value }
}
