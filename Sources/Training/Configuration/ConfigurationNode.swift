import JSON

/// A value of a configuration as it was written, with its place: the type comes from the key that it belongs to.
///
/// Scalars stay text until a key asks for a type, which is what keeps the traps of YAML 1.1 shut: `1e-4` is a number
/// where a number belongs, and `no` is the word where `eval_strategy` wants one of `no`, `steps` and `epoch`.
public struct ConfigurationNode: Sendable, Hashable {
  /// One entry of a mapping.
  public struct Entry: Sendable, Hashable {
    public var key: String
    public var value: ConfigurationNode
  }

  public enum Content: Sendable, Hashable {
    /// A word, with whether it stood in quotes (and therefore is no number, boolean or null of its own accord).
    case scalar(String, isQuoted: Bool)
    case sequence([ConfigurationNode])
    case mapping([Entry])
  }

  public var content: Content
  /// The place of the value, or of its key where it has one.
  public var location: ConfigurationLocation?

  public init(_ content: Content, at location: ConfigurationLocation? = nil) {
    self.content = content
    self.location = location
  }

  /// The node that a JSON value amounts to.
  public init(_ json: JSONValue, at location: ConfigurationLocation? = nil) {
    let content: Content =
      switch json {
      case .null: .scalar("null", isQuoted: false)
      case .bool(let value): .scalar(value ? "true" : "false", isQuoted: false)
      case .integer(let value): .scalar(String(value), isQuoted: false)
      case .number(let value): .scalar(value.description, isQuoted: false)
      case .string(let value): .scalar(value, isQuoted: true)
      case .array(let values): .sequence(values.map { ConfigurationNode($0, at: location) })
      case .object(let members):
        .mapping(members.map { Entry(key: $0.key, value: ConfigurationNode($0.value, at: location)) })
      }
    self.init(content, at: location)
  }

  /// Whether this is YAML's null: nothing, `~` or `null`, without quotes.
  public var isNull: Bool {
    guard case .scalar(let text, isQuoted: false) = content else { return false }
    return ["", "~", "null", "Null", "NULL"].contains(text)
  }

  /// The boolean written here, by the words of YAML 1.1.
  var boolean: Bool? {
    guard case .scalar(let text, isQuoted: false) = content else { return nil }
    switch text.lowercased() {
    case "true", "yes", "on": return true
    case "false", "no", "off": return false
    default: return nil
    }
  }

  /// The whole number written here; quotes do not matter, as the key has said that it wants one.
  var integer: Int? {
    guard case .scalar(let text, _) = content else { return nil }
    let digits = text.replacing("_", with: "")
    if let value = Int(digits) { return value }
    // 1e3 and 512.0 are whole numbers too.
    return number.flatMap { Int(exactly: $0) }
  }

  /// The finite number written here.
  var number: Double? {
    guard case .scalar(let text, _) = content, let first = text.first, first.isNumber || "+-.".contains(first)
    else { return nil }
    // `Double` also reads hexadecimal floats, which no configuration means.
    guard !text.lowercased().contains("x") else { return nil }
    guard let value = Double(text.replacing("_", with: "")), value.isFinite else { return nil }
    return value
  }

  /// The value for a key whose type is not known here: plain words by YAML's rules, with `1e-4` as a number.
  public var json: JSONValue {
    switch content {
    case .scalar(let text, let isQuoted):
      if isQuoted { return .string(text) }
      if isNull { return .null }
      if let boolean { return .bool(boolean) }
      if let number {
        return integer.flatMap { text.contains { ".eE".contains($0) } ? nil : .integer($0) }
          ?? .number(number)
      }
      return .string(text)
    case .sequence(let nodes): return .array(nodes.map(\.json))
    case .mapping(let entries):
      return .object(.init(entries.map { ($0.key, $0.value.json) }, uniquingKeysWith: { $1 }))
    }
  }

  /// What stands here, for messages: the word itself or the kind of collection.
  var summary: String {
    switch content {
    case .scalar(let text, _):
      text.isEmpty ? "nothing" : "`\(text.count > 60 ? text.prefix(60) + "…" : text[...])`"
    case .sequence: "a list"
    case .mapping: "a mapping"
    }
  }
}
