import JSON

/// The options of EVA: `eva_config`.
public struct EVAConfig: Sendable, Hashable {
  /// No layer gets more than ρ · r; 1 leaves all at r.
  public var rho: Double
  /// A direction has converged when one batch turns it by less: the cosine between it before and after.
  public var tau: Double
  /// Whether tokens without loss are left out.
  public var useLabelMask: Bool
  /// Whether directions are divided by the root of their singular value.
  public var whiten: Bool
  /// Whether alpha follows a changed rank, so that the scale stays.
  public var adjustScalingFactors: Bool

  public init(
    rho: Double = 2, tau: Double = 0.99, useLabelMask: Bool = true, whiten: Bool = false,
    adjustScalingFactors: Bool = true
  ) {
    self.rho = rho
    self.tau = tau
    self.useLabelMask = useLabelMask
    self.whiten = whiten
    self.adjustScalingFactors = adjustScalingFactors
  }

  /// - Throws: ``AdapterError`` for values out of range, and keys that EVA does not have.
  init?(_ fields: AdapterFields) throws {
    guard let stored = fields.values["eva_config"], !stored.isNull else { return nil }
    guard let object = stored.objectValue else {
      throw fields.invalid("eva_config", remedy: "write a mapping of EVA's options")
    }
    let own = AdapterFields(object, source: "`eva_config` in \(fields.source)")
    try own.rejectUnknown(
      known: ["rho", "tau", "use_label_mask", "label_mask_value", "whiten", "adjust_scaling_factors"],
      method: "EVA")
    self.init(
      rho: try own.number("rho", default: 2), tau: try own.number("tau", default: 0.99),
      useLabelMask: try own.bool("use_label_mask", default: true),
      whiten: try own.bool("whiten", default: false),
      adjustScalingFactors: try own.bool("adjust_scaling_factors", default: true))
    guard rho >= 1 else { throw own.invalid("rho", remedy: "write 1 or more") }
    guard (0...1).contains(tau) else { throw own.invalid("tau", remedy: "write a cosine from 0 to 1") }
    guard try own.integer("label_mask_value", default: -100, minimum: -100, maximum: -100) == -100 else {
      throw own.invalid("label_mask_value", remedy: "write -100")
    }
  }

  var asJSON: JSONValue {
    .object([
      "rho": .number(rho), "tau": .number(tau), "use_label_mask": .bool(useLabelMask),
      "label_mask_value": -100, "whiten": .bool(whiten),
      "adjust_scaling_factors": .bool(adjustScalingFactors),
    ])
  }
}
