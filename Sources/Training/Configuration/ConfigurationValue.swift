import JSON

/// A type that a configuration key can have.
public protocol ConfigurationValue: Sendable, Hashable {
  /// The type in the words of the reference: "integer", "number or null".
  static var typeName: String { get }

  /// Reads the value of a key.
  ///
  /// - Throws: `ConfigurationError` with the place, what was expected and what stands there.
  init(_ node: ConfigurationNode, key: String) throws

  /// The value as a configuration file holds it.
  var json: JSONValue { get }
}

extension ConfigurationNode {
  /// The error about a value that does not have the type of its key.
  func mismatch(_ key: String, expected: String, remedy: String? = nil) -> ConfigurationError {
    if isNull {
      return ConfigurationError(
        "`\(key)` has no value", key: key, at: location,
        remedy: remedy ?? "write \(expected), or remove the key to get its default")
    }
    var hint = remedy ?? "write \(expected)"
    if case .scalar("None", _) = content { hint = "YAML writes Python's None as `null`; \(hint)" }
    return ConfigurationError("`\(key)` is \(summary), not \(expected)", key: key, at: location, remedy: hint)
  }
}

extension Int: ConfigurationValue {
  public static let typeName = "integer"

  public init(_ node: ConfigurationNode, key: String) throws {
    guard let value = node.integer else { throw node.mismatch(key, expected: "a whole number") }
    self = value
  }

  public var json: JSONValue { .integer(self) }
}

extension UInt64: ConfigurationValue {
  public static let typeName = "integer"

  public init(_ node: ConfigurationNode, key: String) throws {
    if case .scalar(let text, _) = node.content, let value = UInt64(text) {
      self = value
    } else if let value = node.integer, let value = UInt64(exactly: value) {
      self = value
    } else {
      throw node.mismatch(key, expected: "a whole number from 0 on")
    }
  }

  public var json: JSONValue { Int(exactly: self).map { .integer($0) } ?? .string(String(self)) }
}

extension Double: ConfigurationValue {
  public static let typeName = "number"

  public init(_ node: ConfigurationNode, key: String) throws {
    guard let value = node.number else {
      throw node.mismatch(key, expected: "a number", remedy: "write a number such as 0.0001 or 1e-4")
    }
    self = value
  }

  public var json: JSONValue { .number(self) }
}

extension Bool: ConfigurationValue {
  public static let typeName = "boolean"

  public init(_ node: ConfigurationNode, key: String) throws {
    guard let value = node.boolean else { throw node.mismatch(key, expected: "`true` or `false`") }
    self = value
  }

  public var json: JSONValue { .bool(self) }
}

extension String: ConfigurationValue {
  public static let typeName = "string"

  public init(_ node: ConfigurationNode, key: String) throws {
    guard case .scalar(let text, _) = node.content, !node.isNull else {
      throw node.mismatch(key, expected: "a text")
    }
    self = text
  }

  public var json: JSONValue { .string(self) }
}

extension Optional: ConfigurationValue where Wrapped: ConfigurationValue {
  public static var typeName: String { "\(Wrapped.typeName) or null" }

  public init(_ node: ConfigurationNode, key: String) throws {
    self = node.isNull ? nil : try Wrapped(node, key: key)
  }

  public var json: JSONValue { self?.json ?? .null }
}

extension Array: ConfigurationValue where Element: ConfigurationValue {
  public static var typeName: String { "list of \(Element.typeName)s, or one" }

  public init(_ node: ConfigurationNode, key: String) throws {
    switch node.content {
    case .sequence(let nodes): self = try nodes.map { try Element($0, key: key) }
    case .mapping: throw node.mismatch(key, expected: "a list")
    case .scalar: self = node.isNull ? [] : [try Element(node, key: key)]
    }
  }

  public var json: JSONValue { .array(map(\.json)) }
}

/// A mapping whose values a schedule or a method interprets.
extension Dictionary: ConfigurationValue where Key == String, Value == JSONValue {
  public static var typeName: String { "mapping" }

  public init(_ node: ConfigurationNode, key: String) throws {
    switch node.content {
    case .mapping(let entries):
      self = .init(entries.map { ($0.key, $0.value.json) }, uniquingKeysWith: { $1 })
    case .scalar where node.isNull: self = [:]
    default: throw node.mismatch(key, expected: "a mapping", remedy: "write `{name: value}`")
    }
  }

  public var json: JSONValue {
    // Sorted, so that the same configuration always gives the same file.
    .object(.init(uniqueKeysWithValues: sorted { $0.key < $1.key }.map { ($0.key, $0.value) }))
  }
}

/// One of a few words, an enumeration of strings.
public protocol ConfigurationChoice: ConfigurationValue, RawRepresentable<String>, CaseIterable, Codable {
  /// Other spellings of a choice, mapped to the choice.
  static var synonyms: [String: Self] { get }
}

extension ConfigurationChoice {
  public static var synonyms: [String: Self] { [:] }

  public static var typeName: String { allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ") }

  public init(_ node: ConfigurationNode, key: String) throws {
    guard case .scalar(let text, _) = node.content, !node.isNull else {
      throw node.mismatch(key, expected: "one of \(Self.typeName)")
    }
    // YAML 1.1 programs write the word `no` back as `false`.
    let word = node.boolean == false && Self(rawValue: "no") != nil ? "no" : text
    guard let value = Self(rawValue: word) ?? Self.synonyms[word] else {
      let nearest = NearestKey.suggestion(for: word, among: Self.allCases.map(\.rawValue))
      throw node.mismatch(
        key, expected: "one of \(Self.typeName)",
        remedy: nearest.map { "write `\($0)`" } ?? "write one of them")
    }
    self = value
  }

  public var json: JSONValue { .string(rawValue) }
}

/// A number of optimizer steps, or a fraction of the run's.
///
/// As transformers reads `logging_steps`, `eval_steps`, `save_steps` and `warmup_steps`: below 1 it is a fraction.
public enum StepCount: ConfigurationValue, ExpressibleByIntegerLiteral, ExpressibleByFloatLiteral {
  case steps(Int)
  case fraction(Double)

  public static let typeName = "integer, or fraction of the run below 1"

  public init(integerLiteral value: Int) { self = .steps(value) }

  public init(floatLiteral value: Double) {
    self = value.rounded() == value ? .steps(Int(value)) : .fraction(value)
  }

  public init(_ node: ConfigurationNode, key: String) throws {
    if let steps = node.integer {
      self = .steps(steps)
    } else if let fraction = node.number, (0..<1).contains(fraction) {
      self = .fraction(fraction)
    } else {
      throw node.mismatch(key, expected: "a whole number of steps or a fraction below 1")
    }
  }

  public var json: JSONValue {
    switch self {
    case .steps(let steps): .integer(steps)
    case .fraction(let fraction): .number(fraction)
    }
  }

  /// The steps in a run of so many, rounded up.
  public func count(ofTotal total: Int) -> Int {
    switch self {
    case .steps(let steps): steps
    case .fraction(let fraction): Int((Double(total) * fraction).rounded(.up))
    }
  }
}
