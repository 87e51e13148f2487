/// `value.name`, `value[key]` and `value[a:b]`.
extension Interpreter {
  /// Python's attributes that every object has and that the sandbox hides.
  private static let privateAttributes: Set<String> = [
    "__class__", "__doc__", "__dict__", "__init__", "__new__", "__reduce__", "__reduce_ex__", "__repr__",
    "__str__", "__hash__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__dir__",
    "__format__", "__getattribute__", "__setattr__", "__delattr__", "__sizeof__", "__subclasshook__",
    "__init_subclass__", "__getstate__", "__module__",
  ]

  /// `value.name`: the attribute, else the item of that name.
  func attribute(_ name: String, of value: Value) throws -> Value {
    if let found = try ownAttribute(name, of: value) { return found }
    if case .dictionary(let mapping) = value, let item = mapping.entries[.string(.init(text: name))] {
      return item
    }
    return .undefined(.init(message: "'\(objectName(value))' has no attribute \(name.pythonRepresentation)"))
  }

  /// `value[key]`: the item, else the attribute of that name.
  func item(_ key: Value, of value: Value) throws -> Value {
    if let found = try ownItem(key, of: value) { return found }
    guard case .string(let name) = key else {
      return .undefined(.init(message: "\(objectName(value)) has no element \(try representation(key))"))
    }
    return try ownAttribute(name, of: value)
      ?? .undefined(.init(message: "'\(objectName(value))' has no attribute \(name.pythonRepresentation)"))
  }

  private func objectName(_ value: Value) -> String {
    if case .none = value { "None" } else { "\(typeName(value)) object" }
  }

  private func ownItem(_ key: Value, of value: Value) throws -> Value? {
    switch value {
    case .undefined(let undefined): throw failure(undefined)
    case .dictionary(let mapping): return try hashable(key).flatMap { mapping.entries[$0] }
    case .list(let sequence), .tuple(let sequence):
      guard let index = key.asInteger.flatMap({ position($0, count: sequence.items.count) }) else {
        return nil
      }
      return sequence.items[index]
    case .string(let text):
      guard let index = key.asInteger else { return nil }
      try charge(text.utf8.count / 16)
      let scalars = text.unicodeScalars
      guard
        let start = index >= 0
          ? scalars.index(scalars.startIndex, offsetBy: index, limitedBy: scalars.endIndex)
          : index == .min
            ? nil : scalars.index(scalars.endIndex, offsetBy: index, limitedBy: scalars.startIndex),
        start < scalars.endIndex
      else { return nil }
      return .string(String(scalars[start]))
    case .range(let range):
      return key.asInteger.flatMap { position($0, count: range.count) }.map { .integer(range[$0]) }
    default: return nil
    }
  }

  private func position(_ index: Int, count: Int) -> Int? {
    let position = index < 0 ? index &+ count : index
    return (0..<count).contains(position) ? position : nil
  }

  private func ownAttribute(_ name: String, of value: Value) throws -> Value? {
    if case .undefined(let undefined) = value { throw failure(undefined) }
    if Self.privateAttributes.contains(name) || isMutating(name, value) {
      return .undefined(
        .init(
          message:
            "access to attribute \(name.pythonRepresentation) of '\(typeName(value))' object is unsafe.",
          kind: .security))
    }
    if hasMethod(name, value) {
      _ = try nest(value.depth)
      return .method(.init(receiver: value, name: name))
    }
    switch value {
    case .namespace(let namespace): return namespace.attributes[name]
    case .loop(let loop): return try attribute(name, of: loop)
    case .cycler(let cycler) where name == "current": return cycler.items[cycler.position]
    case .tuple(let sequence): return sequence.fields.firstIndex(of: name).map { sequence.items[$0] }
    case .macro(let macro): return try attribute(name, of: macro)
    default: return nil
    }
  }

  private func attribute(_ name: String, of macro: Macro) throws -> Value? {
    switch name {
    case "name": macro.definition.name.map(Value.string) ?? Value.none
    case "arguments": try tuple(macro.definition.parameters.map(Value.string))
    case "caller": .bool(macro.definition.usesCaller)
    case "catch_kwargs": .bool(macro.definition.usesKwargs)
    case "catch_varargs": .bool(macro.definition.usesVarargs)
    default: nil
    }
  }

  private func attribute(_ name: String, of loop: LoopContext) throws -> Value? {
    switch name {
    case "index": .integer(loop.index0 + 1)
    case "index0": .integer(loop.index0)
    case "revindex": .integer(try loop.count() - loop.index0)
    case "revindex0": .integer(try loop.count() - loop.index0 - 1)
    case "first": .bool(loop.index0 == 0)
    case "last": .bool(try loop.peek() == nil)
    case "length": .integer(try loop.count())
    case "depth": .integer(loop.depth0 + 1)
    case "depth0": .integer(loop.depth0)
    case "previtem": loop.previous ?? .undefined(.init(message: "there is no previous item"))
    case "nextitem": try loop.peek() ?? .undefined(.init(message: "there is no next item"))
    default: nil
    }
  }

  // MARK: Slices

  func slice(_ value: Value, start: Int?, stop: Int?, step: Int?) throws -> Value {
    func indices(_ count: Int) throws -> [Int] {
      try charge(count)
      return try sliceIndices(start, stop, step, count: count)
    }
    switch value {
    case .undefined(let undefined): throw failure(undefined)
    case .string(let text):
      let scalars = Array(text.unicodeScalars)
      return .string(String(try indices(scalars.count).lazy.map { scalars[$0] }))
    case .list(let sequence): return try list(indices(sequence.items.count).map { sequence.items[$0] })
    case .tuple(let sequence): return try tuple(indices(sequence.items.count).map { sequence.items[$0] })
    case .range(let range):
      let indices = try indices(range.count)
      guard let first = indices.first else { return .range(.init(start: range.start, step: 1, count: 0)) }
      let stride = indices.count > 1 ? indices[1] - first : step ?? 1
      return .range(.init(start: range[first], step: range.step &* stride, count: indices.count))
    default: throw TemplateError.runtime("'\(typeName(value))' object is not subscriptable by a slice")
    }
  }

  private func sliceIndices(_ start: Int?, _ stop: Int?, _ step: Int?, count: Int) throws -> [Int] {
    let step = step ?? 1
    guard step != 0 else { throw TemplateError.runtime("slice step cannot be zero") }
    func clamp(_ index: Int?, _ missing: Int) -> Int {
      guard let index else { return missing }
      let (low, high) = step > 0 ? (0, count) : (-1, count - 1)
      return min(max(index < 0 ? index &+ count : index, low), high)
    }
    let first = clamp(start, step > 0 ? 0 : count - 1)
    let end = clamp(stop, step > 0 ? count : -1)
    // A step beyond the ends takes one item at most, and the sum of huge numbers would overflow.
    let stride = min(max(step, -count - 1), count + 1)
    return Array(Swift.stride(from: first, to: end, by: stride))
  }
}
