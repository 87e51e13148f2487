import OrderedCollections

/// A value while a template runs: Python's types, as far as templates see them.
///
/// Lists and dictionaries are immutable, because the sandbox of chat templates refuses every method
/// that would change one; only a ``Namespace``, a loop and a cycler have state.
enum Value {
  case undefined(Undefined)
  case none
  case bool(Bool)
  /// Python's integers have no bounds; here one beyond 64 bits is an error.
  case integer(Int)
  case float(Double)
  case string(String)
  case list(Sequence)
  case tuple(Sequence)
  case dictionary(Mapping)
  case range(Range)
  /// `dict.items()`, `keys()` and `values()`.
  case view(View)
  /// What a generator yields: it can be read once and has no length.
  case iterator(ValueIterator)
  case namespace(Namespace)
  case loop(LoopContext)
  case cycler(Cycler)
  case joiner(Joiner)
  case macro(Macro)
  case method(Method)
  case function(Function)

  /// Something that is not there, and the message of the error that using it raises.
  struct Undefined {
    var message: String
    var kind = TemplateError.Kind.undefined
  }

  /// The items of a list or a tuple. `depth` bounds nesting: printing and freeing recurse.
  struct Sequence {
    let items: [Value]
    let depth: Int
    /// The names of a named tuple's items: what `groupby` yields has them.
    var fields: [String] = []
  }

  final class Mapping {
    let entries: OrderedDictionary<Key, Value>
    let depth: Int

    init(entries: OrderedDictionary<Key, Value>, depth: Int) {
      self.entries = entries
      self.depth = depth
    }
  }

  struct Range: Equatable {
    var start: Int
    var step: Int
    var count: Int

    subscript(index: Int) -> Int { start + index * step }
  }

  struct View {
    enum Kind: String { case items, keys, values }
    let kind: Kind
    let mapping: Mapping
  }

  /// A method and the value it belongs to.
  final class Method {
    let receiver: Value
    let name: String

    init(receiver: Value, name: String) {
      self.receiver = receiver
      self.name = name
    }
  }

  /// A function that is there without being defined.
  enum Function: String, CaseIterable {
    case range, dict, namespace, cycler, joiner
    case raiseException = "raise_exception"
    case strftimeNow = "strftime_now"
  }

  /// A key of a dictionary: equal and hashed as in Python, where `1`, `1.0` and `True` are one key.
  enum Key: Hashable {
    case none
    case integer(Int)
    case float(Double)
    case string(ExactString)
    case tuple([Key])
    /// `True` and `False` print as themselves although they equal 1 and 0.
    case bool(Bool)

    static func == (a: Key, b: Key) -> Bool {
      switch (a.number, b.number) {
      case (let x?, let y?): return x == y
      case (nil, nil): break
      default: return false
      }
      switch (a, b) {
      case (.none, .none): return true
      case (.string(let x), .string(let y)): return x == y
      case (.tuple(let x), .tuple(let y)): return x == y
      case (.float(let x), .float(let y)): return x == y
      default: return false
      }
    }

    func hash(into hasher: inout Hasher) {
      if let number {
        hasher.combine(number)
        return
      }
      switch self {
      case .string(let text): hasher.combine(text)
      case .tuple(let keys): hasher.combine(keys)
      case .float(let value): hasher.combine(value)
      default: hasher.combine(-1)
      }
    }

    /// The integer that this key equals, if any.
    private var number: Int? {
      switch self {
      case .integer(let value): value
      case .bool(let value): value ? 1 : 0
      case .float(let value): Int(exactly: value)
      default: nil
      }
    }
  }

  /// A string that equals another only scalar by scalar.
  struct ExactString: Hashable {
    let text: String

    static func == (a: ExactString, b: ExactString) -> Bool { a.text.isSame(as: b.text) }

    func hash(into hasher: inout Hasher) {
      var text = text
      text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
  }

  /// How many levels of values lie in this one.
  var depth: Int {
    switch self {
    case .list(let sequence), .tuple(let sequence): sequence.depth
    case .dictionary(let mapping): mapping.depth
    case .view(let view): view.mapping.depth + 1
    case .iterator(let iterator): iterator.depth
    case .loop(let loop): loop.depthOfItems + 1
    case .cycler(let cycler): cycler.depth
    case .method(let method): method.receiver.depth + 1
    default: 0
    }
  }
}

/// A one-way reader of values: Python's iterators and generators.
final class ValueIterator {
  private var items: ArraySlice<Value>
  let depth: Int
  /// The type's name, which an error and `repr` mention.
  let name: String

  init(_ items: [Value], depth: Int, name: String = "generator") {
    self.items = items[...]
    self.depth = depth
    self.name = name
  }

  func next() -> Value? { items.popFirst() }

  /// Everything that is left, which is then gone.
  func drain() -> [Value] {
    defer { items = [] }
    return Array(items)
  }
}

/// The one kind of value that `set` can change from within a loop: `{% set ns.found = true %}`.
final class Namespace {
  var attributes: OrderedDictionary<String, Value>

  init(attributes: OrderedDictionary<String, Value>) { self.attributes = attributes }
}

/// `cycler("odd", "even")`.
final class Cycler {
  let items: [Value]
  let depth: Int
  var position = 0

  init(items: [Value], depth: Int) {
    self.items = items
    self.depth = depth
  }
}

/// `joiner(", ")`: nothing at the first call, the separator afterwards.
final class Joiner {
  let separator: String
  var isUsed = false

  init(separator: String) { self.separator = separator }
}

/// The variables of a block, a loop's round or a macro's call.
final class Scope {
  var variables: [String: Value] = [:]
  private(set) var parent: Scope?

  init(parent: Scope?) { self.parent = parent }

  func find(_ name: String) -> Value? {
    var scope: Scope? = self
    while let current = scope {
      if let value = current.variables[name] { return value }
      scope = current.parent
    }
    return nil
  }

  /// Lets go of everything: a macro and the scope it was defined in hold each other.
  func clear() {
    variables = [:]
    parent = nil
  }
}

/// A macro, or a call block's body as `caller`, with the scope it was defined in.
final class Macro {
  let definition: MacroDefinition
  let scope: Scope

  init(definition: MacroDefinition, scope: Scope) {
    self.definition = definition
    self.scope = scope
  }
}

/// The variable `loop` of a `for` block.
final class LoopContext {
  private let pull: () throws -> Value?
  private var ahead: [Value] = []
  private var isExhausted = false
  private var knownCount: Int?
  private(set) var index0 = -1
  private(set) var current: Value?
  private(set) var previous: Value?
  let depth0: Int
  /// The deepest item's depth, so that a loop kept in a namespace counts as what it holds.
  let depthOfItems: Int
  let recursion: (loop: Statement.Loop, scope: Scope)?
  var lastChanged: [Value]?

  init(
    count: Int?, depth0: Int, depthOfItems: Int, recursion: (loop: Statement.Loop, scope: Scope)?,
    pull: @escaping () throws -> Value?
  ) {
    knownCount = count
    self.depth0 = depth0
    self.depthOfItems = depthOfItems
    self.recursion = recursion
    self.pull = pull
  }

  func advance() throws -> Value? {
    guard let next = try peek() else { return nil }
    ahead.removeFirst()
    index0 += 1
    previous = current
    current = next
    return next
  }

  func peek() throws -> Value? {
    if let first = ahead.first { return first }
    guard !isExhausted, let next = try pull() else {
      isExhausted = true
      return nil
    }
    ahead.append(next)
    return next
  }

  /// The number of rounds; reads a filtered loop to its end to know it.
  func count() throws -> Int {
    if let knownCount { return knownCount }
    while !isExhausted {
      guard let next = try pull() else {
        isExhausted = true
        break
      }
      ahead.append(next)
    }
    let count = index0 + 1 + ahead.count
    knownCount = count
    return count
  }
}
