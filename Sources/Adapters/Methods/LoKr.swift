import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// LoKr: the change of a weight is a Kronecker product of a small matrix and one that is low-rank where that is smaller
/// (Yeh et al. 2023, arXiv:2309.14859).
///
/// ΔW = alpha / r · W1 ⊗ W2, with W1 `[a, c]`, W2 `[b, d]`, out = a b and in = c d. A matrix that is decomposed is the
/// product of factors `[rows, r]` and `[r, columns]`. W1 starts at zero.
public struct LoKrConfig: AdapterConfiguration, Hashable {
  public enum Initialization: Sendable, Hashable {
    /// W1 zero: PEFT's `true`.
    case standard
    /// W2 zero, as the LyCORIS collection starts it.
    case lycoris
    /// All random, so that the adapter does something at once: `false`. For tests.
    case random
  }

  public var settings: LyCORISSettings
  /// Whether W1 is decomposed too, where that is smaller.
  public var decomposeBoth: Bool
  /// What sizes are divided by where it divides them, and the bound of a and c elsewhere; −1 divides near the square root.
  public var decomposeFactor: Int
  /// Whether outputs that are not dropped grow, so that the mean stays.
  public var rankDropoutScale: Bool
  public var initWeights: Initialization
  public var common: CommonAdapterSettings

  public init(
    _ settings: LyCORISSettings = LyCORISSettings(), decomposeBoth: Bool = false, decomposeFactor: Int = -1,
    rankDropoutScale: Bool = false, initWeights: Initialization = .standard, modulesToSave: [String]? = nil,
    taskType: String? = "CAUSAL_LM"
  ) {
    self.settings = settings
    self.decomposeBoth = decomposeBoth
    self.decomposeFactor = decomposeFactor
    self.rankDropoutScale = rankDropoutScale
    self.initWeights = initWeights
    common = CommonAdapterSettings(taskType: taskType, modulesToSave: modulesToSave)
  }

  public static let tunerName = "LoKrModel"

  public static let method = AdapterMethod(
    peftType: "LOKR",
    summary:
      "LoKr: the change of a weight is a Kronecker product of a small and a low-rank matrix (arXiv 2309.14859).",
    options: LyCORISSettings.options + [
      .init("decompose_both", .boolean, default: false, "Make the small matrix low-rank too."),
      .init(
        "decompose_factor", .integer, default: -1,
        "Size of the small matrix, where it divides the layer's; -1 is near the square root."),
      .init(
        "rank_dropout_scale", .boolean, default: false,
        "Scale what `rank_dropout` leaves up, so that the mean stays."),
      .init(
        "init_weights", .any([.boolean, .choice(["lycoris"])]), default: true,
        "`true`: the small matrix starts at zero. `lycoris`: the other one does. `false`: both are random."),
    ] + CommonAdapterSettings.options
  ) { try LoKrConfig($0) }

  public init(_ fields: AdapterFields) throws {
    settings = try LyCORISSettings(fields)
    decomposeBoth = try fields.bool("decompose_both", default: false)
    decomposeFactor = try fields.integer("decompose_factor", default: -1, minimum: -1)
    guard decomposeFactor != 0 else {
      throw fields.invalid(
        "decompose_factor", remedy: "write 1 or more, or -1 for sizes near the square root")
    }
    rankDropoutScale = try fields.bool("rank_dropout_scale", default: false)
    switch fields.values["init_weights"] {
    case nil, .null, .bool(true): initWeights = .standard
    case .bool(false): initWeights = .random
    case .string("lycoris"): initWeights = .lycoris
    case _?: throw fields.invalid("init_weights", remedy: "write true, false or \"lycoris\"")
    }
    common = try CommonAdapterSettings(fields)
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    let start: JSONValue =
      switch initWeights {
      case .standard: true
      case .lycoris: "lycoris"
      case .random: false
      }
    return settings.fields.merging([
      "decompose_both": .bool(decomposeBoth), "decompose_factor": .integer(decomposeFactor),
      "rank_dropout_scale": .bool(rankDropoutScale), "init_weights": start,
    ]) { $1 }
  }

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let method = LinearMethod(
      name: "LoKr", targets: settings.targets, defaults: DefaultTargets.attention,
      modulesToSave: common.modulesToSave)
    return try method.adapter(for: model) { path, layer in
      let (rank, scale) = try settings.rankAndScale(path)
      return try LoKrLinear(layer, rank: rank, scale: scale, self, device: model.device)
    }
  }

  /// Two numbers whose product is `size`, the smaller first: `factor` and the rest where it divides, else the pair that is
  /// nearest to the square root with a first one of at most `factor`.
  static func factorization(_ size: Int, factor: Int) -> (Int, Int) {
    if factor > 0, size % factor == 0 { return (factor, size / factor) }
    let limit = factor == -1 ? size : factor
    var (small, large) = (1, size)
    while small < large {
      var next = small + 1
      while size % next != 0 { next += 1 }
      if next + size / next > 1 + size || next > limit { break }
      (small, large) = (next, size / next)
    }
    return (min(small, large), max(small, large))
  }
}

/// The two matrices at one linear layer.
final class LoKrLinear: LinearChange {
  /// A matrix, or the two factors of one.
  private struct Matrix {
    let name: String
    let parameters: [Parameter]

    var value: Tensor {
      get throws {
        parameters.count == 1
          ? parameters[0].value : try parameters[0].value.matmul(parameters[1].value)
      }
    }

    var named: [(name: String, parameter: Parameter)] {
      parameters.count == 1
        ? [(name, parameters[0])] : [("\(name)_a", parameters[0]), ("\(name)_b", parameters[1])]
    }
  }

  private let small: Matrix  // [a, c]
  private let large: Matrix  // [b, d]
  private let scale: Double
  private let settings: LyCORISSettings
  private let rescales: Bool
  var isTraining = false

  init(_ layer: Linear, rank: Int, scale: Double, _ configuration: LoKrConfig, device: Device) throws {
    self.scale = scale
    settings = configuration.settings
    rescales = configuration.rankDropoutScale
    let factor = configuration.decomposeFactor
    let (a, b) = LoKrConfig.factorization(layer.outFeatures, factor: factor)
    let (c, d) = LoKrConfig.factorization(layer.inFeatures, factor: factor)
    // Factors only where they are smaller than what they make.
    func isDecomposed(_ rows: Int, _ columns: Int) -> Bool { 2 * rank < max(rows, columns) }
    func matrix(
      _ name: String, _ rows: Int, _ columns: Int, decomposed: Bool, zero: (whole: Bool, first: Bool)
    )
      throws -> Matrix
    {
      func start(_ shape: [Int], zero: Bool) throws -> Parameter {
        try zero ? .zeros(shape, device: device) : .kaimingUniform(shape, device: device)
      }
      guard decomposed else {
        return Matrix(name: name, parameters: [try start([rows, columns], zero: zero.whole)])
      }
      return Matrix(
        name: name,
        parameters: [
          try start([rows, rank], zero: zero.whole && zero.first),
          try start([rank, columns], zero: zero.whole && !zero.first),
        ])
    }
    small = try matrix(
      "lokr_w1", a, c, decomposed: configuration.decomposeBoth && isDecomposed(a, c),
      zero: (configuration.initWeights == .standard, true))
    large = try matrix(
      "lokr_w2", b, d, decomposed: isDecomposed(b, d), zero: (configuration.initWeights == .lycoris, false))
  }

  var parameters: [(name: String, parameter: Parameter)] { small.named + large.named }

  /// With the place that convolutions have.
  var printed: PrintedLayer {
    let names = ["lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"]
    return PrintedLayer("lokr.Linear", slots: PrintedLayer.Slot.parameters(names, parameters))
  }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let output = try next(input)
    guard try settings.keepsModule(isTraining: isTraining) else { return output }
    // (W1 ⊗ W2) x without the product: x as [c, d], d turned by W2, c by W1. In two dimensions throughout, as the engine
    // sums in another order in three, and in yet another when it records no gradient.
    let (first, second) = (try small.value.to(input.dtype), try large.value.to(input.dtype))
    let (c, d) = (first.size(1), second.size(1))
    let inner = try input.reshaped(-1, d).linear(second)  // [T · c, b]
    let turned = try inner.reshaped(-1, c, second.size(0)).transposed()  // [T, b, c]
    var change =
      try turned.reshaped(-1, c).linear(first)  // [T · b, a]
      .reshaped(-1, second.size(0), first.size(0)).transposed()  // [T, a, b]
      .reshaped(input.shape.dropLast() + [layer.outFeatures]) * scale
    if let mask = try settings.outputMask(
      layer.outFeatures, isTraining: isTraining, rescaling: rescales, device: input.device)
    {
      change = try change * mask.to(change.dtype)
    }
    return try output + change
  }

  func merged(_ weight: Tensor) throws -> Tensor {
    let (first, second) = (try small.value, try large.value)
    let blocks = try first.unsqueezed(1).unsqueezed(3) * second.unsqueezed(0).unsqueezed(2)  // [a, b, c, d]
    return try weight + blocks.reshaped(weight.shape) * scale
  }
}
