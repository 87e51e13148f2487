import JSON
import OrderedCollections

/// What Python does with values of any type: truth, text, equality, order, iteration.
extension Interpreter {
  func typeName(_ value: Value) -> String {
    switch value {
    case .undefined: "Undefined"
    case .none: "NoneType"
    case .bool: "bool"
    case .integer: "int"
    case .float: "float"
    case .string: "str"
    case .list: "list"
    case .tuple: "tuple"
    case .dictionary: "dict"
    case .range: "range"
    case .view(let view): "dict_\(view.kind.rawValue)"
    case .iterator(let iterator): iterator.name
    case .namespace: "Namespace"
    case .loop: "LoopContext"
    case .cycler: "Cycler"
    case .joiner: "Joiner"
    case .macro: "Macro"
    case .method: "builtin_function_or_method"
    case .function: "function"
    }
  }

  func failure(_ undefined: Value.Undefined) -> TemplateError { .init(undefined.kind, undefined.message) }

  func isTrue(_ value: Value) -> Bool {
    switch value {
    case .undefined, .none: false
    case .bool(let value): value
    case .integer(let value): value != 0
    case .float(let value): value != 0
    case .string(let value): !value.isEmpty
    case .list(let sequence), .tuple(let sequence): !sequence.items.isEmpty
    case .dictionary(let mapping): !mapping.entries.isEmpty
    case .view(let view): !view.mapping.entries.isEmpty
    case .range(let range): range.count > 0
    default: true
    }
  }

  // MARK: Text

  /// `str(value)`.
  func text(of value: Value) throws -> String {
    switch value {
    case .string(let text): return text
    case .undefined: return ""
    default:
      var text = ""
      try represent(value, into: &text)
      return text
    }
  }

  /// `repr(value)`.
  func representation(_ value: Value) throws -> String {
    var text = ""
    try represent(value, into: &text)
    return text
  }

  private func represent(_ value: Value, into text: inout String) throws {
    try checkStack()
    let start = text.utf8.count
    switch value {
    case .undefined: text += "Undefined"
    case .none: text += "None"
    case .bool(let value): text += value ? "True" : "False"
    case .integer(let value): text += String(value)
    case .float(let value): text += value.pythonRepresentation
    case .string(let value): text += value.pythonRepresentation
    case .list(let sequence): try represent(sequence.items, "[", "]", into: &text)
    case .tuple(let sequence):
      try represent(sequence.items, "(", sequence.items.count == 1 ? ",)" : ")", into: &text)
    case .dictionary(let mapping): try represent(mapping, into: &text)
    case .range(let range):
      let end = range.start + range.count * range.step
      text += "range(\(range.start), \(end)" + (range.step == 1 ? ")" : ", \(range.step))")
    case .view(let view):
      text += "dict_\(view.kind.rawValue)("
      try represent(items(of: value), "[", "]", into: &text)
      text += ")"
    case .namespace(let namespace):
      text += "<Namespace {"
      for (index, attribute) in namespace.attributes.enumerated() {
        text += (index > 0 ? ", " : "") + attribute.key.pythonRepresentation + ": "
        try represent(attribute.value, into: &text)
      }
      text += "}>"
    case .loop(let loop): text += "<LoopContext \(loop.index0 + 1)/\(try loop.count())>"
    case .macro(let macro): text += "<Macro \(macro.definition.name?.pythonRepresentation ?? "anonymous")>"
    case .method(let method):
      text += "<built-in method \(method.name) of \(typeName(method.receiver)) object>"
    case .function(let function): text += "<function \(function.rawValue)>"
    case .iterator, .cycler, .joiner: text += "<\(typeName(value)) object>"
    }
    try charge(bytes: text.utf8.count - start)
  }

  private func represent(_ items: [Value], _ open: String, _ close: String, into text: inout String) throws {
    text += open
    for (index, item) in items.enumerated() {
      if index > 0 { text += ", " }
      try represent(item, into: &text)
    }
    text += close
  }

  private func represent(_ mapping: Value.Mapping, into text: inout String) throws {
    text += "{"
    for (index, entry) in mapping.entries.enumerated() {
      if index > 0 { text += ", " }
      try represent(self.value(of: entry.key), into: &text)
      text += ": "
      try represent(entry.value, into: &text)
    }
    text += "}"
  }

  // MARK: Keys

  func key(_ value: Value) throws -> Value.Key {
    guard let key = try hashable(value) else {
      throw TemplateError.runtime("unhashable type: '\(typeName(value))'")
    }
    return key
  }

  /// The value as a key; `nil` for what Python cannot hash.
  func hashable(_ value: Value) throws -> Value.Key? {
    switch value {
    case .none: return Value.Key.none
    case .bool(let value): return .bool(value)
    case .integer(let value): return .integer(value)
    case .float(let value): return .float(value)
    case .string(let text): return .string(.init(text: text))
    case .tuple(let sequence):
      try checkStack()
      var keys: [Value.Key] = []
      for item in sequence.items {
        guard let key = try hashable(item) else { return nil }
        keys.append(key)
      }
      return .tuple(keys)
    default: return nil
    }
  }

  func value(of key: Value.Key) throws -> Value {
    switch key {
    case .none: .none
    case .bool(let value): .bool(value)
    case .integer(let value): .integer(value)
    case .float(let value): .float(value)
    case .string(let text): .string(text.text)
    case .tuple(let keys): try tuple(keys.map { try value(of: $0) })
    }
  }

  // MARK: Equality and order

  func areEqual(_ a: Value, _ b: Value) throws -> Bool {
    try charge()
    switch (a, b) {
    case (.string(let x), .string(let y)): return x.isSame(as: y)
    case (.none, .none), (.undefined, .undefined): return true
    case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)):
      guard x.items.count == y.items.count else { return false }
      try checkStack()
      return try zip(x.items, y.items).allSatisfy(areEqual)
    case (.dictionary(let x), .dictionary(let y)):
      guard x.entries.count == y.entries.count else { return false }
      try checkStack()
      return try x.entries.allSatisfy { entry in
        try y.entries[entry.key].map { try areEqual(entry.value, $0) } ?? false
      }
    case (.range(let x), .range(let y)):
      return x.count == y.count && (x.count == 0 || x.start == y.start && (x.count == 1 || x.step == y.step))
    case (.namespace(let x), .namespace(let y)): return x === y
    case (.macro(let x), .macro(let y)): return x === y
    case (.loop(let x), .loop(let y)): return x === y
    case (.function(let x), .function(let y)): return x == y
    default:
      guard let order = numericOrder(a, b) else { return false }
      return order == .some(.equal)
    }
  }

  private enum Order { case less, equal, greater, unordered }

  private func numericOrder(_ a: Value, _ b: Value) -> Order? {
    if let x = a.asInteger, let y = b.asInteger { return x < y ? .less : x == y ? .equal : .greater }
    guard let x = a.asDouble, let y = b.asDouble else { return nil }
    if x.isNaN || y.isNaN { return .unordered }
    return x < y ? .less : x == y ? .equal : .greater
  }

  func compare(_ a: Value, _ operation: ComparisonOperator, _ b: Value) throws -> Bool {
    switch operation {
    case .equal: return try areEqual(a, b)
    case .notEqual: return try !areEqual(a, b)
    case .isIn: return try contains(b, a)
    case .notIn: return try !contains(b, a)
    case .less: return try order(a, b, "<") == .less
    case .greater: return try order(a, b, ">") == .greater
    case .lessOrEqual: return [.less, .equal].contains(try order(a, b, "<="))
    case .greaterOrEqual: return [.greater, .equal].contains(try order(a, b, ">="))
    }
  }

  /// Whether `a` sorts before `b`.
  func isLess(_ a: Value, _ b: Value) throws -> Bool { try order(a, b, "<") == .less }

  private func order(_ a: Value, _ b: Value, _ operation: String) throws -> Order {
    try charge()
    switch (a, b) {
    case (.undefined(let undefined), _), (_, .undefined(let undefined)): throw failure(undefined)
    case (.string(let x), .string(let y)):
      if x.isSame(as: y) { return .equal }
      return x.utf8.lexicographicallyPrecedes(y.utf8) ? .less : .greater
    case (.list(let x), .list(let y)), (.tuple(let x), .tuple(let y)):
      try checkStack()
      for (left, right) in zip(x.items, y.items) where try !areEqual(left, right) {
        return try order(left, right, operation)
      }
      let (m, n) = (x.items.count, y.items.count)
      return m < n ? .less : m == n ? .equal : .greater
    default:
      guard let order = numericOrder(a, b) else {
        throw TemplateError.runtime(
          "'\(operation)' not supported between instances of '\(typeName(a))' and '\(typeName(b))'")
      }
      return order
    }
  }

  func contains(_ container: Value, _ element: Value) throws -> Bool {
    switch container {
    case .string(let text):
      guard case .string(let part) = element else {
        throw TemplateError.runtime(
          "'in <string>' requires string as left operand, not \(typeName(element))")
      }
      try charge(bytes: text.utf8.count)
      return text.firstOffset(of: part) != nil
    case .dictionary(let mapping): return try mapping.entries[key(element)] != nil
    case .view(let view) where view.kind == .keys:
      return try view.mapping.entries[key(element)] != nil
    case .iterator(let iterator):
      while let item = iterator.next() {
        if try areEqual(item, element) { return true }
      }
      return false
    default: return try items(of: container).contains { try areEqual($0, element) }
    }
  }

  // MARK: Iteration

  /// Everything that iterating over `value` gives.
  func items(of value: Value) throws -> [Value] {
    switch value {
    case .list(let sequence), .tuple(let sequence): return sequence.items
    case .string(let text):
      try charge(text.utf8.count)
      return text.unicodeScalars.map { .string(String($0)) }
    case .dictionary(let mapping): return try mapping.entries.keys.map { try self.value(of: $0) }
    case .view(let view):
      try charge(view.mapping.entries.count)
      return try view.mapping.entries.map { entry in
        switch view.kind {
        case .keys: try self.value(of: entry.key)
        case .values: entry.value
        case .items: try tuple([self.value(of: entry.key), entry.value])
        }
      }
    case .range(let range):
      try charge(range.count)
      return (0..<range.count).map { .integer(range[$0]) }
    case .iterator(let iterator): return iterator.drain()
    case .undefined: return []
    case .loop(let loop):
      var items: [Value] = []
      while let item = try loop.advance() { items.append(try tuple([item, value])) }
      return items
    default: throw TemplateError.runtime("'\(typeName(value))' object is not iterable")
    }
  }

  /// `len(value)`.
  func count(of value: Value) throws -> Int {
    switch value {
    case .string(let text): return text.unicodeScalars.count
    case .list(let sequence), .tuple(let sequence): return sequence.items.count
    case .dictionary(let mapping): return mapping.entries.count
    case .view(let view): return view.mapping.entries.count
    case .range(let range): return range.count
    case .undefined: return 0
    case .loop(let loop): return try loop.count()
    default: throw TemplateError.runtime("object of type '\(typeName(value))' has no len()")
    }
  }

  // MARK: Conversions of arguments

  func integer(_ value: Value, _ what: String) throws -> Int {
    if case .undefined(let undefined) = value { throw failure(undefined) }
    guard let integer = value.asInteger else {
      throw TemplateError.runtime("\(what) has to be an integer, not '\(typeName(value))'")
    }
    return integer
  }

  func string(_ value: Value, _ what: String) throws -> String {
    if case .undefined(let undefined) = value { throw failure(undefined) }
    guard case .string(let text) = value else {
      throw TemplateError.runtime("\(what) has to be a string, not '\(typeName(value))'")
    }
    return text
  }

  // MARK: JSON

  func json(_ value: Value) throws -> JSONValue {
    try checkStack()
    switch value {
    case .none: return .null
    case .bool(let value): return .bool(value)
    case .integer(let value): return .integer(value)
    case .float(let value): return .number(value)
    case .string(let text): return .string(text)
    case .list(let sequence), .tuple(let sequence): return .array(try sequence.items.map(json))
    case .dictionary(let mapping):
      try charge(mapping.entries.count)
      var members: OrderedDictionary<String, JSONValue> = [:]
      for (key, value) in mapping.entries {
        let name: String
        switch key {
        case .string(let text): name = text.text
        case .integer(let value): name = String(value)
        case .float(let value): name = value.pythonRepresentation
        case .bool(let value): name = value ? "true" : "false"
        case .none: name = "null"
        case .tuple: throw TemplateError.runtime("keys must be str, int, float, bool or None, not tuple")
        }
        members[name] = try json(value)
      }
      return .object(members)
    default: throw TemplateError.runtime("Object of type \(typeName(value)) is not JSON serializable")
    }
  }
}

extension Value {
  /// The integer that this is; booleans are integers in Python.
  var asInteger: Int? {
    switch self {
    case .integer(let value): value
    case .bool(let value): value ? 1 : 0
    default: nil
    }
  }

  var asDouble: Double? {
    if case .float(let value) = self { return value }
    return asInteger.map(Double.init)
  }
}
