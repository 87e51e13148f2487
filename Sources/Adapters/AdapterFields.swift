import JSON
import OrderedCollections

/// The fields of an adapter's configuration under PEFT's names, each look-up checked.
///
/// They come from `adapter_config.json` or from the user's own configuration; errors name the key and the source.
public struct AdapterFields: Sendable {
  public let values: OrderedDictionary<String, JSONValue>
  /// Where they come from, for messages.
  public let source: String

  public init(_ values: OrderedDictionary<String, JSONValue>, source: String) {
    self.values = values
    self.source = source
  }

  private func value<Value>(
    _ key: String, _ kind: String, _ fallback: Value, _ convert: (JSONValue) -> Value?
  ) throws -> Value {
    try value(key, kind, convert) ?? fallback
  }

  /// Nil when the key is absent or null.
  private func value<Value>(_ key: String, _ kind: String, _ convert: (JSONValue) -> Value?) throws -> Value?
  {
    guard let stored = values[key], !stored.isNull else { return nil }
    guard let value = convert(stored) else { throw invalid(key, remedy: "write \(kind)") }
    return value
  }

  /// The error about a value that cannot be used.
  ///
  /// - Parameter remedy: what to do, as the end of a sentence: "write 1 or more".
  public func invalid(_ key: String, remedy: String) -> AdapterError {
    AdapterError(option: key, in: source, "is \(values[key]?.serialized() ?? "missing")", remedy: remedy)
  }

  public func integer(
    _ key: String, default fallback: Int, minimum: Int = 1, maximum: Int = Int(Int32.max)
  ) throws -> Int {
    try value(key, "a whole number from \(minimum) to \(maximum)", fallback) {
      $0.intValue.flatMap { (minimum...maximum).contains($0) ? $0 : nil }
    }
  }

  /// A whole number, nil when there is none.
  public func integer(_ key: String, minimum: Int = 1, maximum: Int = Int(Int32.max)) throws -> Int? {
    try value(key, "a whole number from \(minimum) to \(maximum)") {
      $0.intValue.flatMap { (minimum...maximum).contains($0) ? $0 : nil }
    }
  }

  public func number(_ key: String, default fallback: Double) throws -> Double {
    try value(key, "a finite number", fallback) { $0.doubleValue.flatMap { $0.isFinite ? $0 : nil } }
  }

  public func bool(_ key: String, default fallback: Bool) throws -> Bool {
    try value(key, "true or false", fallback) { $0.boolValue }
  }

  public func string(_ key: String) throws -> String? {
    try value(key, "a string") { $0.stringValue }
  }

  /// A list of strings; one string counts as a list of one.
  public func strings(_ key: String) throws -> [String]? {
    try value(key, "a list of strings") { stored -> [String]? in
      if let one = stored.stringValue { return [one] }
      guard let list = stored.arrayValue else { return nil }
      let strings = list.compactMap(\.stringValue)
      return strings.count == list.count ? strings : nil
    }
  }

  /// A list of whole numbers; one number counts as a list of one.
  public func integers(_ key: String) throws -> [Int]? {
    try value(key, "a whole number or a list of them") { stored -> [Int]? in
      if let one = stored.intValue { return [one] }
      guard let list = stored.arrayValue else { return nil }
      let integers = list.compactMap(\.intValue)
      return integers.count == list.count ? integers : nil
    }
  }

  /// Numbers by name, in the order in which they stand.
  public func numbers(_ key: String) throws -> OrderedDictionary<String, Double> {
    try value(key, "an object of numbers", [:]) { stored in
      guard let object = stored.objectValue else { return nil }
      var numbers: OrderedDictionary<String, Double> = [:]
      for (name, value) in object {
        guard let number = value.doubleValue, number.isFinite else { return nil }
        numbers[name] = number
      }
      return numbers
    }
  }

  /// Which modules: a regular expression, or a list of names.
  public func modules(_ key: String) throws -> ModuleSelection? {
    guard let stored = values[key], !stored.isNull else { return nil }
    if let pattern = stored.stringValue {
      return pattern.lowercased() == "all-linear" ? .allLinear : .pattern(pattern)
    }
    return .names(try strings(key) ?? [])
  }

  /// Refuses keys that `known` does not list when their value asks for something: what is ignored in silence could
  /// change what the adapter computes.
  func rejectUnknown(known: Set<String>, method: String) throws {
    for (key, value) in values where !known.contains(key) && !value.asksForNothing {
      throw AdapterError(
        "`\(key)` (\(value.serialized())) in \(source) is not something that Graft's \(method) has, and leaving it out "
          + "could change what the adapter computes. Remove the key if you are sure that it does not matter.")
    }
  }
}

extension JSONValue {
  /// Null, false, or empty: the value of an option that is not used.
  var asksForNothing: Bool {
    switch self {
    case .null, .bool(false): true
    case .array(let list): list.isEmpty
    case .object(let object): object.isEmpty
    default: false
    }
  }
}
