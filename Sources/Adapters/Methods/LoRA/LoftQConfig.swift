import JSON

/// The options of LoftQ: `loftq_config`.
public struct LoftQConfig: Sendable, Hashable {
  /// The form that the base's weights take while the adapter is at work.
  public enum Bits: Int, Sendable, Hashable {
    /// NF4 in blocks of 64.
    case four = 4
    /// Signed bytes with a scale for each row.
    case eight = 8
  }

  public var bits: Bits
  /// How many times the weight is quantized and decomposed in turn.
  public var iterations: Int

  public init(bits: Bits = .four, iterations: Int = 1) {
    self.bits = bits
    self.iterations = iterations
  }

  /// - Throws: ``AdapterError`` for values out of range, and keys that LoftQ does not have.
  init?(_ fields: AdapterFields) throws {
    guard let stored = fields.values["loftq_config"], !stored.asksForNothing else { return nil }
    guard let object = stored.objectValue else {
      throw fields.invalid("loftq_config", remedy: "write a mapping of LoftQ's options")
    }
    let own = AdapterFields(object, source: "`loftq_config` in \(fields.source)")
    try own.rejectUnknown(known: ["loftq_bits", "loftq_iter"], method: "LoftQ")
    guard let bits = Bits(rawValue: try own.integer("loftq_bits", default: 4)) else {
      throw own.invalid("loftq_bits", remedy: "write 4 (NF4) or 8 (int8), which PEFT has too")
    }
    self.init(bits: bits, iterations: try own.integer("loftq_iter", default: 1, maximum: 1000))
  }

  var asJSON: JSONValue {
    .object(["loftq_bits": .integer(bits.rawValue), "loftq_iter": .integer(iterations)])
  }
}
