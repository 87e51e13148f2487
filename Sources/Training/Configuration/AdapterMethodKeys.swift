import JSON

/// The keys that one adapter method has in a configuration: the fields of PEFT's configuration class.
///
/// The method itself lives with its layers; this is what `RunConfiguration` needs to know of it. `validate` gives the
/// method the last word: it decodes its own configuration type from the resolved object and throws what does not fit.
public struct AdapterMethodKeys: Sendable {
  /// One field.
  public struct Key: Sendable {
    public var name: String
    public var type: AdapterValueType
    /// The field's default, in PEFT.
    public var defaultValue: JSONValue
    public var meaning: String

    public init(_ name: String, _ type: AdapterValueType, default defaultValue: JSONValue, _ meaning: String)
    {
      self.name = name
      self.type = type
      self.defaultValue = defaultValue
      self.meaning = meaning
    }
  }

  /// The value of `peft_method`: PEFT's `peft_type` in lower case.
  public var method: String
  /// What the method does, one sentence.
  public var summary: String
  public var keys: [Key]
  /// Checks a resolved configuration object with PEFT's names, `peft_type` included.
  public var validate: @Sendable (JSONValue) throws -> Void

  public init(
    method: String, summary: String, keys: [Key], validate: @escaping @Sendable (JSONValue) throws -> Void
  ) {
    self.method = method
    self.summary = summary
    self.keys = keys
    self.validate = validate
  }
}

/// The type of an adapter's field.
public indirect enum AdapterValueType: Sendable, Hashable {
  case integer, number, boolean, string
  /// One of a few words.
  case choice([String])
  /// A list; a value that is not one stands for a list of one.
  case list(AdapterValueType)
  /// A mapping with values of a type.
  case mapping(AdapterValueType)
  /// The first of several types that fits.
  case any([AdapterValueType])
  /// A type or null.
  case optional(AdapterValueType)

  /// The type in words.
  public var name: String {
    switch self {
    case .integer: "integer"
    case .number: "number"
    case .boolean: "boolean"
    case .string: "string"
    case .choice(let words): words.map { "`\($0)`" }.joined(separator: ", ")
    case .list(let element): "list of \(element.name)s"
    case .mapping(let value): "mapping to \(value.name)s"
    case .any(let types): types.map(\.name).joined(separator: ", or ")
    case .optional(let type): "\(type.name), or null"
    }
  }

  /// The value of a node, if it has this type.
  func value(of node: ConfigurationNode) -> JSONValue? {
    switch self {
    case .integer: return node.integer.map { .integer($0) }
    case .number:
      // A whole number stays one, as PEFT writes `"lora_alpha": 16`.
      if case .integer(let value) = node.json { return .integer(value) }
      return node.number.map { .number($0) }
    case .boolean: return node.boolean.map { .bool($0) }
    case .string:
      guard case .scalar(let text, _) = node.content, !node.isNull else { return nil }
      return .string(text)
    case .choice(let words):
      guard case .scalar(let text, _) = node.content, words.contains(text) else { return nil }
      return .string(text)
    case .list(let element):
      guard case .sequence(let nodes) = node.content else { return element.value(of: node).map { [$0] } }
      let values = nodes.compactMap { element.value(of: $0) }
      return values.count == nodes.count ? .array(values) : nil
    case .mapping(let type):
      guard case .mapping(let entries) = node.content else { return nil }
      let values = entries.compactMap { entry in type.value(of: entry.value).map { (entry.key, $0) } }
      return values.count == entries.count ? .object(.init(values, uniquingKeysWith: { $1 })) : nil
    case .any(let types):
      return types.lazy.compactMap { $0.value(of: node) }.first
    case .optional(let type):
      return node.isNull ? .null : type.value(of: node)
    }
  }
}
