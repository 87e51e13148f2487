import JSON
import OrderedCollections
import Torch

/// What LoHa and LoKr have in common: both came to PEFT from the LyCORIS collection (Yeh et al. 2023, arXiv:2309.14859).
public struct LyCORISSettings: Sendable, Hashable {
  /// The rank.
  public var r: Int
  /// The change is multiplied by alpha / r.
  public var alpha: Double
  /// The probability with which an output of the change is dropped in training.
  public var rankDropout: Double
  /// The probability with which the change of a whole layer is dropped in training.
  public var moduleDropout: Double
  public var targets: TargetModules
  /// Other ranks for modules whose path ends in a match of the key, the first that matches.
  public var rankPattern: OrderedDictionary<String, Double>
  /// Other alphas, likewise.
  public var alphaPattern: OrderedDictionary<String, Double>

  public init(
    r: Int = 8, alpha: Double = 8, rankDropout: Double = 0, moduleDropout: Double = 0,
    targets: TargetModules = TargetModules(), rankPattern: OrderedDictionary<String, Double> = [:],
    alphaPattern: OrderedDictionary<String, Double> = [:]
  ) {
    self.r = r
    self.alpha = alpha
    self.rankDropout = rankDropout
    self.moduleDropout = moduleDropout
    self.targets = targets
    self.rankPattern = rankPattern
    self.alphaPattern = alphaPattern
  }

  static let options: [AdapterOption] =
    [
      .init("r", .integer, default: 8, "Rank of the factors."),
      .init("alpha", .number, default: 8, "Scale of the change: it is multiplied by `alpha / r`."),
      .init(
        "rank_dropout", .number, default: 0.0, "Probability of dropping an output of the change in training."),
      .init(
        "module_dropout", .number, default: 0.0,
        "Probability of leaving out the change of a whole layer in a training step."),
    ] + TargetModules.options() + [
      .init(
        "rank_pattern", .mapping(.integer), default: [:], "Ranks of single layers, by name or expression."),
      .init("alpha_pattern", .mapping(.number), default: [:], "Values of `alpha` for single layers."),
      .init(
        "use_effective_conv2d", .boolean, default: false,
        "For convolutions, which the models here do not have; `true` is refused."),
    ]

  init(_ fields: AdapterFields) throws {
    r = try fields.integer("r", default: 8, maximum: LoRAConfig.maximumRank)
    alpha = try fields.number("alpha", default: 8)
    rankDropout = try fields.probability("rank_dropout")
    moduleDropout = try fields.probability("module_dropout")
    targets = try TargetModules(fields)
    rankPattern = try fields.ranks("rank_pattern")
    alphaPattern = try fields.numbers("alpha_pattern")
    if try fields.bool("use_effective_conv2d", default: false) {
      throw fields.invalid(
        "use_effective_conv2d", remedy: "write false: the models here have no convolutions")
    }
  }

  var fields: OrderedDictionary<String, JSONValue> {
    targets.fields().merging([
      "r": .integer(r), "alpha": alpha.json, "rank_dropout": .number(rankDropout),
      "module_dropout": .number(moduleDropout), "rank_pattern": rankPattern.json,
      "alpha_pattern": alphaPattern.json, "use_effective_conv2d": false,
    ]) { $1 }
  }

  /// Rank and scale of the module at `path`.
  func rankAndScale(_ path: String) throws -> (rank: Int, scale: Double) {
    let rank = try rankPattern.value(matching: path).map { Int($0) } ?? r
    return (rank, try (alphaPattern.value(matching: path) ?? alpha) / Double(rank))
  }

  /// Whether the change of a layer takes part in a step.
  func keepsModule(isTraining: Bool) throws -> Bool {
    guard isTraining, moduleDropout > 0 else { return true }
    return try Tensor.uniform([1]).item() > moduleDropout
  }

  /// Zeros for the outputs `[out]` that are dropped, and what the others are multiplied with; nil when none is.
  ///
  /// - Parameter rescaling: whether the others grow, so that the mean stays.
  func outputMask(_ count: Int, isTraining: Bool, rescaling: Bool, device: Device) throws -> Tensor? {
    guard isTraining, rankDropout > 0 else { return nil }
    let kept = try Tensor.uniform([count], device: device).greater(rankDropout).to(.float32)
    guard rescaling else { return kept }
    // With all dropped there is nothing to rescale, and no number to divide by.
    return try kept / Swift.max(kept.mean().item(), 1 / Double(count))
  }
}
