import Foundation
import OrderedCollections

extension JSONValue {
  /// Makes a JSON value of an `Encodable` one; members keep the order in which they are encoded.
  ///
  /// - Throws: ``JSONError`` whose `path` names the value that JSON cannot hold.
  public static func encode<T: Encodable>(_ value: T) throws(JSONError) -> JSONValue {
    do {
      let node = Node()
      try ValueEncoder(node: node, codingPath: []).wrap(value)
      return node.value
    } catch let error as JSONError {
      throw error
    } catch EncodingError.invalidValue(_, let context) {
      throw JSONError(context.debugDescription, path: JSONError.path(context.codingPath))
    } catch {
      throw JSONError(String(describing: error))
    }
  }
}

extension JSONValue: Codable {
  /// Reads any value, from this module's decoder or another's (whose order of keys it then has).
  public init(from decoder: any Decoder) throws {
    if let container = try? decoder.container(keyedBy: PathKey.self) {
      var members: OrderedDictionary<String, JSONValue> = [:]
      for key in container.allKeys {
        members[key.stringValue] = try container.decode(JSONValue.self, forKey: key)
      }
      self = .object(members)
      return
    }
    if var container = try? decoder.unkeyedContainer() {
      var elements: [JSONValue] = []
      while !container.isAtEnd { elements.append(try container.decode(JSONValue.self)) }
      self = .array(elements)
      return
    }
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Int.self) {
      self = .integer(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else {
      self = .string(try container.decode(String.self))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    switch self {
    case .object(let members):
      var container = encoder.container(keyedBy: PathKey.self)
      for (key, value) in members {
        try container.encode(value, forKey: PathKey(stringValue: key))
      }
    case .array(let elements):
      var container = encoder.unkeyedContainer()
      for element in elements { try container.encode(element) }
    default:
      var container = encoder.singleValueContainer()
      switch self {
      case .bool(let value): try container.encode(value)
      case .integer(let value): try container.encode(value)
      case .number(let value): try container.encode(value)
      case .string(let value): try container.encode(value)
      default: try container.encodeNil()
      }
    }
  }
}

/// A place that a value is written to: `Encoder`'s containers are handed out before they are filled.
private final class Node {
  enum Content {
    case empty
    case value(JSONValue)
    case array([Node])
    case object(OrderedDictionary<String, Node>)
  }

  var content = Content.empty

  var value: JSONValue {
    switch content {
    case .empty: .object([:])
    case .value(let value): value
    case .array(let nodes): .array(nodes.map(\.value))
    case .object(let nodes): .object(nodes.mapValues(\.value))
    }
  }

  func append() -> Node {
    let node = Node()
    if case .array(let nodes) = content {
      content = .array(nodes + [node])
    } else {
      content = .array([node])
    }
    return node
  }

  func member(_ key: String) -> Node {
    let node = Node()
    if case .object(var nodes) = content {
      content = .empty
      nodes[key] = node
      content = .object(nodes)
    } else {
      content = .object([key: node])
    }
    return node
  }

  var count: Int {
    if case .array(let nodes) = content { nodes.count } else { 0 }
  }
}

private struct ValueEncoder: Encoder {
  let node: Node
  let codingPath: [any CodingKey]
  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    if case .object = node.content {} else { node.content = .object([:]) }
    return KeyedEncodingContainer(MemberEncoder(node: node, codingPath: codingPath))
  }

  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    if case .array = node.content {} else { node.content = .array([]) }
    return ElementEncoder(node: node, codingPath: codingPath)
  }

  func singleValueContainer() -> any SingleValueEncodingContainer { self }

  func wrap<T: Encodable>(_ value: T) throws {
    switch value {
    case let value as JSONValue: node.content = .value(value)
    case let value as URL: node.content = .value(.string(value.absoluteString))
    default: try value.encode(to: self)
    }
  }
}

extension ValueEncoder: SingleValueEncodingContainer {
  func encodeNil() { node.content = .value(.null) }
  func encode(_ value: Bool) { node.content = .value(.bool(value)) }
  func encode(_ value: String) { node.content = .value(.string(value)) }
  func encode(_ value: Float) throws { try encodeFinite(value) { Double(value.description) } }
  func encode(_ value: Double) throws { try encodeFinite(value) { value } }
  func encode(_ value: Int) { encodeInteger(value) }
  func encode(_ value: Int8) { encodeInteger(value) }
  func encode(_ value: Int16) { encodeInteger(value) }
  func encode(_ value: Int32) { encodeInteger(value) }
  func encode(_ value: Int64) { encodeInteger(value) }
  func encode(_ value: UInt) { encodeInteger(value) }
  func encode(_ value: UInt8) { encodeInteger(value) }
  func encode(_ value: UInt16) { encodeInteger(value) }
  func encode(_ value: UInt32) { encodeInteger(value) }
  func encode(_ value: UInt64) { encodeInteger(value) }
  func encode<T: Encodable>(_ value: T) throws { try wrap(value) }

  private func encodeInteger<T: FixedWidthInteger>(_ value: T) {
    node.content = .value(Int(exactly: value).map(JSONValue.integer) ?? .number(Double(value)))
  }

  /// `Float(0.1)` becomes 0.1, not 0.10000000149011612: its own shortest digits are what was meant.
  private func encodeFinite<T: BinaryFloatingPoint>(_ value: T, as double: () -> Double?) throws {
    guard value.isFinite, let double = double() else {
      throw EncodingError.invalidValue(
        value, .init(codingPath: codingPath, debugDescription: "\(value) is not a JSON number"))
    }
    node.content = .value(.number(double))
  }
}

private struct MemberEncoder<Key: CodingKey>: KeyedEncodingContainerProtocol {
  let node: Node
  let codingPath: [any CodingKey]

  func encodeNil(forKey key: Key) { member(key).encodeNil() }

  func encode<T: Encodable>(_ value: T, forKey key: Key) throws { try member(key).wrap(value) }

  func nestedContainer<Nested: CodingKey>(
    keyedBy type: Nested.Type, forKey key: Key
  ) -> KeyedEncodingContainer<Nested> {
    member(key).container(keyedBy: type)
  }

  func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
    member(key).unkeyedContainer()
  }

  func superEncoder() -> any Encoder {
    ValueEncoder(
      node: node.member(PathKey.super.stringValue), codingPath: codingPath + [PathKey.super])
  }

  func superEncoder(forKey key: Key) -> any Encoder { member(key) }

  private func member(_ key: Key) -> ValueEncoder {
    ValueEncoder(node: node.member(key.stringValue), codingPath: codingPath + [key])
  }
}

private struct ElementEncoder: UnkeyedEncodingContainer {
  let node: Node
  let codingPath: [any CodingKey]
  var count: Int { node.count }

  func encodeNil() { element().encodeNil() }

  func encode<T: Encodable>(_ value: T) throws { try element().wrap(value) }

  func nestedContainer<Key: CodingKey>(
    keyedBy type: Key.Type
  ) -> KeyedEncodingContainer<Key> {
    element().container(keyedBy: type)
  }

  func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer { element().unkeyedContainer() }

  func superEncoder() -> any Encoder { element() }

  private func element() -> ValueEncoder {
    let index = PathKey(intValue: count)
    return ValueEncoder(node: node.append(), codingPath: codingPath + [index])
  }
}
