import Adapters
import JSON

extension AdapterOption.ValueType {
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
