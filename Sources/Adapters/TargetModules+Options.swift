import JSON
import OrderedCollections

// The options by which PEFT's methods choose modules, as they stand in files.

extension TargetModules {
  /// - Parameters:
  ///   - what: what the method does to a module, for the meaning: "scale".
  ///   - byLayer: whether the method has `layers_to_transform` and `layers_pattern`.
  ///   - excluding: whether it has `exclude_modules`.
  static func options(_ what: String = "adapt", byLayer: Bool = true, excluding: Bool = true)
    -> [AdapterOption]
  {
    var options: [AdapterOption] = [
      .init(
        "target_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Layers to \(what): names or endings of paths, a regular expression of whole paths, or `all-linear`. `null` is "
          + "the usual choice for the model's family.")
    ]
    if excluding {
      options.append(
        .init(
          "exclude_modules", .optional(.any([.string, .list(.string)])), default: nil,
          "Layers to leave out although `target_modules` names them."))
    }
    if byLayer {
      options += [
        .init(
          "layers_to_transform", .optional(.any([.integer, .list(.integer)])), default: nil,
          "Indices of the blocks to \(what); `null` is all."),
        .init(
          "layers_pattern", .optional(.any([.string, .list(.string)])), default: nil,
          "Name of the list of blocks in module paths, if it is not one that Graft knows."),
      ]
    }
    return options
  }

  init(_ fields: AdapterFields) throws {
    self.init(
      targetModules: try fields.modules("target_modules"),
      excludeModules: try fields.modules("exclude_modules"),
      layersToTransform: try fields.integers("layers_to_transform"),
      layersPattern: try fields.strings("layers_pattern"))
  }

  func fields(byLayer: Bool = true, excluding: Bool = true) -> OrderedDictionary<String, JSONValue> {
    var fields: OrderedDictionary<String, JSONValue> = ["target_modules": targetModules?.json ?? .null]
    if excluding { fields["exclude_modules"] = excludeModules?.json ?? .null }
    if byLayer {
      fields["layers_to_transform"] = layersToTransform.map { .array($0.map(JSONValue.integer)) } ?? .null
      fields["layers_pattern"] = layersPattern.map { .array($0.map(JSONValue.string)) } ?? .null
    }
    return fields
  }
}

extension ModuleSelection {
  var json: JSONValue {
    switch self {
    case .pattern(let pattern): .string(pattern)
    case .names(let names): .array(names.map(JSONValue.string))
    case .allLinear: "all-linear"
    }
  }
}

extension Double {
  /// Whole numbers without a fraction, as PEFT's users write ranks and alphas.
  var json: JSONValue { self == rounded() && abs(self) < 1e15 ? .integer(Int(self)) : .number(self) }
}

/// Ranks or scales of single modules, by expressions for the end of their path: PEFT's `rank_pattern` and `alpha_pattern`.
extension OrderedDictionary where Key == String, Value == Double {
  /// The value of the first key that matches `path`, whole or behind a dot.
  func value(matching path: String) throws -> Double? {
    try first { try RegularExpression(#"(.*\.)?(\#($0.key))"#).matchesWhole(path) }?.value
  }

  var json: JSONValue { .object(mapValues(\.json)) }
}

extension AdapterFields {
  /// A probability with which something is dropped in training.
  func probability(_ key: String) throws -> Double {
    let value = try number(key, default: 0)
    guard (0..<1).contains(value) else {
      throw invalid(key, remedy: "write a probability from 0 to below 1")
    }
    return value
  }

  /// Whole ranks by expression.
  func ranks(_ key: String) throws -> OrderedDictionary<String, Double> {
    let ranks = try numbers(key)
    guard
      ranks.values.allSatisfy({ (1...Double(LoRAConfig.maximumRank)).contains($0) && $0 == $0.rounded() })
    else { throw invalid(key, remedy: "write whole ranks from 1 to \(LoRAConfig.maximumRank)") }
    return ranks
  }

  /// PEFT's switch for GPT-2's transposed weights.
  func refuseFanInFanOut() throws {
    guard try bool("fan_in_fan_out", default: false) else { return }
    throw invalid(
      "fan_in_fan_out",
      remedy:
        "write false: it is for models whose weights are stored transposed (GPT-2), which Graft does not have yet"
    )
  }
}

extension AdapterOption {
  static let fanInFanOut = AdapterOption(
    "fan_in_fan_out", .boolean, default: false,
    "For weights that are stored as [in, out], GPT-2's; `true` is refused, as Graft has no such family yet.")
}
