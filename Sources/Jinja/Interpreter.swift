import JSON
import OrderedCollections

/// Runs the statements of one template once.
final class Interpreter {
  /// Where execution goes on after a statement.
  enum Flow { case next, breakLoop, continueLoop }

  let options: RenderingOptions
  private let tracksGeneration: Bool
  private let stack: StackGuard
  private var steps = 0
  private(set) var output = ""
  /// How many blocks and macros, whose text is not yet part of the output, are being written.
  private var captures = 0
  private var generated: [Swift.Range<Int>] = []
  /// What can hold itself, to be cut apart at the end.
  private var namespaces: [Namespace] = []
  private var scopes: [Scope] = []

  init(options: RenderingOptions, tracksGeneration: Bool) {
    self.options = options
    self.tracksGeneration = tracksGeneration
    stack = StackGuard(limit: options.limits.stackBytes)
  }

  func render(
    _ statements: [Statement], context: OrderedDictionary<String, JSONValue>
  ) throws -> TrackedRendering {
    defer {
      for namespace in namespaces { namespace.attributes = [:] }
      for scope in scopes { scope.clear() }
    }
    let variables = Scope(parent: nil)
    for (name, value) in context { variables.variables[name] = try convert(value) }
    let root = Scope(parent: variables)
    _ = try execute(statements, in: root)
    return TrackedRendering(text: output, generated: generated)
  }

  // MARK: Limits

  /// Counts work; `count` is how many items or dozens of bytes it touches.
  func charge(_ count: Int = 1) throws {
    steps += count
    guard steps <= options.limits.steps else {
      throw TemplateError(.limit, "the template takes more than \(options.limits.steps) steps")
    }
  }

  /// Counts the work of making a text of that many bytes, and refuses one that is too long.
  func charge(bytes: Int) throws {
    guard bytes <= options.limits.stringBytes else {
      throw TemplateError(.limit, "a text would be longer than \(options.limits.stringBytes) bytes")
    }
    try charge(bytes / 16 + 1)
  }

  func checkStack() throws { try stack.check() }

  func located(_ error: any Error, _ line: Int) -> any Error {
    guard var error = error as? TemplateError, error.line == nil else { return error }
    error.line = line
    return error
  }

  // MARK: Values that may nest

  func list(_ items: [Value]) throws -> Value { .list(try sequence(items)) }

  func tuple(_ items: [Value], fields: [String] = []) throws -> Value {
    var sequence = try sequence(items)
    sequence.fields = fields
    return .tuple(sequence)
  }

  func iterator(_ items: [Value], name: String = "generator") throws -> Value {
    .iterator(ValueIterator(items, depth: try sequence(items).depth, name: name))
  }

  func dictionary(_ entries: OrderedDictionary<Value.Key, Value>) throws -> Value {
    try charge(entries.count)
    return .dictionary(.init(entries: entries, depth: try nest(entries.values.lazy.map(\.depth).max() ?? 0)))
  }

  func sequence(_ items: [Value]) throws -> Value.Sequence {
    try charge(items.count)
    return .init(items: items, depth: try nest(items.lazy.map(\.depth).max() ?? 0))
  }

  func nest(_ depth: Int) throws -> Int {
    guard depth < options.limits.valueDepth else {
      throw TemplateError(.limit, "values nest more than \(options.limits.valueDepth) levels deep")
    }
    return depth + 1
  }

  func namespace(_ attributes: OrderedDictionary<String, Value>) throws -> Value {
    for name in attributes.keys { try checkPublic(name) }
    let namespace = Namespace(attributes: attributes)
    namespaces.append(namespace)
    return .namespace(namespace)
  }

  private func checkPublic(_ name: String) throws {
    guard !name.hasPrefix("_") else {
      throw TemplateError(.security, "a namespace cannot have the private attribute '\(name)'")
    }
  }

  /// What came from outside, as the template sees it.
  private func convert(_ value: JSONValue) throws -> Value {
    try checkStack()
    switch value {
    case .null: return .none
    case .bool(let value): return .bool(value)
    case .integer(let value): return .integer(value)
    case .number(let value): return .float(value)
    case .string(let value): return .string(value)
    case .array(let elements): return try list(elements.map(convert))
    case .object(let members):
      var entries: OrderedDictionary<Value.Key, Value> = [:]
      entries.reserveCapacity(members.count)
      for (key, value) in members {
        entries[.string(.init(text: key))] = try convert(value)
      }
      return try dictionary(entries)
    }
  }

  // MARK: Statements

  func execute(_ statements: [Statement], in scope: Scope) throws -> Flow {
    try checkStack()
    for statement in statements {
      do {
        try charge()
        let flow = try execute(statement, in: scope)
        if flow != .next { return flow }
      } catch {
        throw located(error, statement.line)
      }
    }
    return .next
  }

  private func execute(_ statement: Statement, in scope: Scope) throws -> Flow {
    switch statement.kind {
    case .text(let text): try write(text)
    case .output(let expression): try write(text(of: evaluate(expression, in: scope)))
    case .assign(let target, let expression):
      try assign(evaluate(expression, in: scope), to: target, in: scope)
    case .conditional(let branches, let otherwise):
      for branch in branches where try isTrue(evaluate(branch.test, in: scope)) {
        return try execute(branch.body, in: scope)
      }
      return try execute(otherwise, in: scope)
    case .loop(let loop):
      try run(loop, over: evaluate(loop.iterable, in: scope), depth0: 0, in: scope)
    case .macro(let definition):
      scope.variables[definition.name ?? ""] = macro(definition, in: scope)
    case .breakLoop: return .breakLoop
    case .continueLoop: return .continueLoop
    case .scope(let body): return try execute(body, in: Scope(parent: scope))
    default: return try executeBlock(statement, in: scope)
    }
    return .next
  }

  /// The rarer statements, apart so that the frame of the common ones stays small.
  private func executeBlock(_ statement: Statement, in scope: Scope) throws -> Flow {
    switch statement.kind {
    case .assignBlock(let target, let filter, let body):
      var value = Value.string(try capture(body, in: Scope(parent: scope)))
      if let filter { value = try apply(filter, toBlock: value, in: scope) }
      try assign(value, to: target, in: scope)
    case .filterBlock(let filter, let body):
      let inner = Scope(parent: scope)
      let text = try capture(body, in: inner)
      try write(self.text(of: apply(filter, toBlock: .string(text), in: inner)))
    case .callBlock(let callee, let arguments, let definition):
      var evaluated = try evaluate(arguments, in: scope)
      evaluated.keyword.append(("caller", macro(definition, in: scope)))
      try write(text(of: call(evaluate(callee, in: scope), evaluated)))
    case .with(let bindings, let body):
      let inner = Scope(parent: scope)
      for binding in bindings {
        try assign(evaluate(binding.value, in: scope), to: binding.target, in: inner)
      }
      return try execute(body, in: inner)
    case .generation(let body):
      guard tracksGeneration else { return try execute(body, in: Scope(parent: scope)) }
      guard captures == 0 else {
        throw TemplateError.runtime(
          "a {% generation %} block inside of a macro, a call or a set block has no place in the text")
      }
      let start = output.utf8.count
      let flow = try execute(body, in: Scope(parent: scope))
      generated.append(start..<output.utf8.count)
      return flow
    default: preconditionFailure("a statement that execute(_:in:) handles")
    }
    return .next
  }

  private func write(_ text: String) throws {
    try charge(bytes: text.utf8.count)
    output += text
    guard output.utf8.count <= options.limits.stringBytes else {
      throw TemplateError(.limit, "the text is longer than \(options.limits.stringBytes) bytes")
    }
  }

  /// The text that `body` writes, instead of writing it.
  func capture(_ body: [Statement], in scope: Scope) throws -> String {
    try capture { _ = try execute(body, in: scope) }
  }

  private func capture(_ write: () throws -> Void) throws -> String {
    let outer = output
    output = ""
    captures += 1
    defer {
      output = outer
      captures -= 1
    }
    try write()
    return output
  }

  func assign(_ value: Value, to target: Target, in scope: Scope) throws {
    switch target {
    case .name(let name): scope.variables[name] = value
    case .namespace(let name, let attribute):
      guard case .namespace(let namespace)? = scope.find(name) else {
        throw TemplateError.runtime("cannot assign attribute on non-namespace object")
      }
      try checkPublic(attribute)
      namespace.attributes[attribute] = value
    case .tuple(let targets):
      let items = try items(of: value)
      guard items.count >= targets.count else {
        throw TemplateError.runtime(
          "not enough values to unpack (expected \(targets.count), got \(items.count))")
      }
      guard items.count == targets.count else {
        throw TemplateError.runtime("too many values to unpack (expected \(targets.count))")
      }
      for (target, item) in zip(targets, items) { try assign(item, to: target, in: scope) }
    }
  }

  // MARK: Loops

  private func run(_ loop: Statement.Loop, over iterable: Value, depth0: Int, in scope: Scope) throws {
    let context = try loopContext(loop, over: iterable, depth0: depth0, in: scope)
    var rounds = 0
    while let item = try context.advance() {
      try charge()
      rounds += 1
      let round = Scope(parent: scope)
      round.variables["loop"] = .loop(context)
      try assign(item, to: loop.target, in: round)
      if try execute(loop.body, in: round) == .breakLoop { break }
    }
    if rounds == 0 { _ = try execute(loop.otherwise, in: Scope(parent: scope)) }
  }

  private func loopContext(
    _ loop: Statement.Loop, over iterable: Value, depth0: Int, in scope: Scope
  ) throws -> LoopContext {
    var pull: () throws -> Value?
    var count: Int?
    if case .iterator(let iterator) = iterable {
      pull = { iterator.next() }
    } else {
      let items = try items(of: iterable)
      count = items.count
      var rest = items[...]
      pull = { rest.popFirst() }
    }
    if let test = loop.test {
      // Each item is tested when the loop comes to it: the body may have changed a namespace.
      count = nil
      let source = pull
      pull = { [unowned self] in
        while let item = try source() {
          try charge()
          let inner = Scope(parent: scope)
          try assign(item, to: loop.target, in: inner)
          if try isTrue(evaluate(test, in: inner)) { return item }
        }
        return nil
      }
    }
    if loop.isRecursive { scopes.append(scope) }
    return LoopContext(
      count: count, depth0: depth0, depthOfItems: try nest(iterable.depth),
      recursion: loop.isRecursive ? (loop, scope) : nil, pull: pull)
  }

  /// `loop(children)`: the text of the same loop over other items.
  func recurse(_ context: LoopContext, over iterable: Value) throws -> Value {
    guard let (loop, scope) = context.recursion else {
      throw TemplateError.runtime("The loop must have the 'recursive' marker to be called recursively.")
    }
    try checkStack()
    return .string(
      try capture { try run(loop, over: iterable, depth0: context.depth0 + 1, in: scope) })
  }

  // MARK: Macros

  private func macro(_ definition: MacroDefinition, in scope: Scope) -> Value {
    scopes.append(scope)
    return .macro(Macro(definition: definition, scope: scope))
  }

  func call(_ macro: Macro, _ arguments: Arguments) throws -> Value {
    try checkStack()
    let definition = macro.definition
    let name = definition.name ?? "caller"
    let parameters = definition.parameters
    var keyword = arguments.keyword
    func take(_ name: String) -> Value? {
      keyword.firstIndex { $0.name == name }.map { keyword.remove(at: $0).value }
    }

    let scope = Scope(parent: macro.scope)
    var missing: [(index: Int, name: String)] = []
    for (index, parameter) in parameters.enumerated() {
      if index < arguments.positional.count {
        scope.variables[parameter] = arguments.positional[index]
      } else if let value = take(parameter) {
        scope.variables[parameter] = value
      } else {
        missing.append((index, parameter))
      }
    }
    if definition.usesCaller, !parameters.contains("caller") {
      scope.variables["caller"] = take("caller") ?? .undefined(.init(message: "No caller defined"))
    }
    if definition.usesKwargs {
      var entries: OrderedDictionary<Value.Key, Value> = [:]
      for (name, value) in keyword { entries[.string(.init(text: name))] = value }
      scope.variables["kwargs"] = try dictionary(entries)
    } else if let extra = keyword.first {
      throw TemplateError.runtime("macro '\(name)' takes no keyword argument '\(extra.name)'")
    }
    let rest = arguments.positional.dropFirst(parameters.count)
    if definition.usesVarargs {
      scope.variables["varargs"] = try tuple(Array(rest))
    } else if !rest.isEmpty {
      throw TemplateError.runtime("macro '\(name)' takes not more than \(parameters.count) argument(s)")
    }
    // Defaults come last, because one may mention the parameters before it.
    let firstDefault = parameters.count - definition.defaults.count
    for (index, parameter) in missing {
      scope.variables[parameter] =
        index >= firstDefault
        ? try evaluate(definition.defaults[index - firstDefault], in: scope)
        : .undefined(.init(message: "parameter '\(parameter)' was not provided"))
    }
    return .string(try capture(definition.body, in: scope))
  }
}
