import JSON

/// One key of a configuration: its name in files, type and meaning, and the property it sets.
///
/// A group of settings is a struct with a table of these. Reading, writing, the reference in the documentation and the
/// suggestions for misspelt keys all come from the table.
public struct ConfigurationKey<Root: Sendable>: Sendable {
  /// The snake_case name.
  public let name: String
  /// The heading under which the reference lists it.
  public let section: String
  /// The type in words.
  public let typeName: String
  /// What it does, one or two sentences.
  public let meaning: String
  /// The value of the property.
  public let value: @Sendable (Root) -> JSONValue
  /// Reads a node into the property.
  public let set: @Sendable (inout Root, ConfigurationNode) throws -> Void

  init<Value: ConfigurationValue>(
    _ name: String, in section: String, _ property: WritableKeyPath<Root, Value> & Sendable, _ meaning: String
  ) {
    self.name = name
    self.section = section
    self.meaning = meaning
    typeName = Value.typeName
    value = { $0[keyPath: property].json }
    set = { $0[keyPath: property] = try Value($1, key: name) }
  }
}

/// A group of settings with a table of keys.
public protocol ConfigurationGroup: Sendable, Hashable, Codable {
  /// The defaults.
  init()
  /// Every key, in the order of the reference.
  static var keys: [ConfigurationKey<Self>] { get }
}

extension ConfigurationGroup {
  /// Sets what the mapping holds under this group's keys, and leaves the other entries to other groups.
  mutating func set(_ entries: [ConfigurationNode.Entry]) throws {
    for entry in entries {
      try Self.keys.first { $0.name == entry.key }?.set(&self, entry.value)
    }
  }

  /// Decodes snake_case keys; absent ones keep their defaults, unknown ones are errors.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: ConfigurationCodingKey.self)
    self.init()
    for codingKey in container.allKeys {
      guard let key = Self.keys.first(where: { $0.name == codingKey.stringValue }) else {
        throw UnknownKey.error(codingKey.stringValue, at: nil, among: Self.keys.map(\.name))
      }
      try key.set(&self, ConfigurationNode(try container.decode(JSONValue.self, forKey: codingKey)))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: ConfigurationCodingKey.self)
    for key in Self.keys {
      try container.encode(key.value(self), forKey: ConfigurationCodingKey(key.name))
    }
  }
}

private struct ConfigurationCodingKey: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }

  init(_ name: String) { stringValue = name }
  init?(stringValue: String) { self.init(stringValue) }
  init?(intValue: Int) { nil }
}
