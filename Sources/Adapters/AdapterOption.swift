import JSON

/// An option of an adapter method: a field of PEFT's configuration class with its type, default and meaning.
///
/// The options of a method stand in its own file. Configuration files are read by them, and the reference in
/// docs/configuration.md is made from them.
public struct AdapterOption: Sendable {
  /// The field's name in PEFT.
  public var name: String
  public var type: ValueType
  /// The field's default in PEFT.
  public var defaultValue: JSONValue
  /// What it does, in Markdown.
  public var meaning: String

  public init(_ name: String, _ type: ValueType, default defaultValue: JSONValue, _ meaning: String) {
    self.name = name
    self.type = type
    self.defaultValue = defaultValue
    self.meaning = meaning
  }

  /// The type of an option's value.
  public indirect enum ValueType: Sendable, Hashable {
    case integer, number, boolean, string
    /// One of a few words.
    case choice([String])
    /// A list; a value that is not one stands for a list of one.
    case list(ValueType)
    /// A mapping with values of a type.
    case mapping(ValueType)
    /// The first of several types that fits.
    case any([ValueType])
    /// A type or null.
    case optional(ValueType)

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
  }
}
