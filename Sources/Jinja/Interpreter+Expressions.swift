import OrderedCollections

extension Interpreter {
  func evaluate(_ expression: Expression, in scope: Scope) throws -> Value {
    do {
      try charge()
      try checkStack()
      return try dispatch(expression, in: scope)
    } catch {
      throw located(error, expression.line)
    }
  }

  private func dispatch(_ expression: Expression, in scope: Scope) throws -> Value {
    switch expression.kind {
    case .constant(let constant): value(of: constant)
    case .name(let name): look(up: name, in: scope)
    case .attribute(let base, let name): try attribute(name, of: evaluate(base, in: scope))
    case .item(let base, let key): try item(evaluate(key, in: scope), of: evaluate(base, in: scope))
    case .and(let left, let right): try conjunction(left, right, in: scope)
    case .or(let left, let right): try disjunction(left, right, in: scope)
    case .unary(let operation, let operand): try apply(operation, evaluate(operand, in: scope))
    case .binary(let operation, let left, let right):
      try apply(operation, evaluate(left, in: scope), evaluate(right, in: scope))
    case .comparison(let first, let rest): try compare(first, rest, in: scope)
    case .call(let callee, let arguments): try call(callee, arguments, in: scope)
    case .filter(let input, let name, let arguments):
      try filter(input, name, arguments, in: scope)
    case .test(let input, let name, let arguments):
      .bool(try test(name, evaluate(input, in: scope), evaluate(arguments, in: scope)))
    case .concatenation(let items): try concatenate(items, in: scope)
    case .conditional(let test, let then, let otherwise):
      try choose(test, then, otherwise, line: expression.line, in: scope)
    default: try build(expression, in: scope)
    }
  }

  private func value(of constant: Constant) -> Value {
    switch constant {
    case .none: .none
    case .bool(let value): .bool(value)
    case .integer(let value): .integer(value)
    case .float(let value): .float(value)
    case .string(let value): .string(value)
    }
  }

  private func look(up name: String, in scope: Scope) -> Value {
    if let value = scope.find(name) { return value }
    if let function = Value.Function(rawValue: name) { return .function(function) }
    return .undefined(.init(message: "'\(name)' is undefined"))
  }

  /// Lists, tuples, dictionaries and slices.
  private func build(_ expression: Expression, in scope: Scope) throws -> Value {
    switch expression.kind {
    case .list(let items): return try list(items.map { try evaluate($0, in: scope) })
    case .tuple(let items): return try tuple(items.map { try evaluate($0, in: scope) })
    case .dictionary(let pairs):
      var entries: OrderedDictionary<Value.Key, Value> = [:]
      for pair in pairs {
        let key = try key(evaluate(pair.key, in: scope))
        entries[key] = try evaluate(pair.value, in: scope)
      }
      return try dictionary(entries)
    case .slice(let base, let start, let stop, let step):
      let base = try evaluate(base, in: scope)
      func bound(_ expression: Expression?) throws -> Int? {
        guard let expression else { return nil }
        let value = try evaluate(expression, in: scope)
        if case .none = value { return nil }
        return try integer(value, "a slice's index")
      }
      return try slice(base, start: bound(start), stop: bound(stop), step: bound(step))
    default: preconditionFailure("an expression that dispatch(_:in:) handles")
    }
  }

  private func conjunction(_ left: Expression, _ right: Expression, in scope: Scope) throws -> Value {
    let value = try evaluate(left, in: scope)
    return isTrue(value) ? try evaluate(right, in: scope) : value
  }

  private func disjunction(_ left: Expression, _ right: Expression, in scope: Scope) throws -> Value {
    let value = try evaluate(left, in: scope)
    return isTrue(value) ? value : try evaluate(right, in: scope)
  }

  private func choose(
    _ test: Expression, _ then: Expression, _ otherwise: Expression?, line: Int, in scope: Scope
  ) throws -> Value {
    if try isTrue(evaluate(test, in: scope)) { return try evaluate(then, in: scope) }
    if let otherwise { return try evaluate(otherwise, in: scope) }
    return .undefined(
      .init(
        message: "the inline if-expression on line \(line) evaluated to false and no else section was "
          + "defined."))
  }

  private func concatenate(_ items: [Expression], in scope: Scope) throws -> Value {
    var result = ""
    for item in items {
      result += try text(of: evaluate(item, in: scope))
      try charge(bytes: result.utf8.count)
    }
    return .string(result)
  }

  private func compare(
    _ first: Expression, _ rest: [(operation: ComparisonOperator, operand: Expression)], in scope: Scope
  ) throws -> Value {
    var left = try evaluate(first, in: scope)
    for (operation, operand) in rest {
      let right = try evaluate(operand, in: scope)
      guard try compare(left, operation, right) else { return .bool(false) }
      left = right
    }
    return .bool(true)
  }

  // MARK: Calls

  private func call(_ callee: Expression, _ arguments: CallArguments, in scope: Scope) throws -> Value {
    // `text.strip()`: the method is called without becoming a value first.
    if case .attribute(let base, let name) = callee.kind {
      let receiver = try evaluate(base, in: scope)
      if hasMethod(name, receiver) {
        return try callMethod(name, of: receiver, evaluate(arguments, in: scope))
      }
      return try call(attribute(name, of: receiver), evaluate(arguments, in: scope))
    }
    let function = try evaluate(callee, in: scope)
    return try call(function, evaluate(arguments, in: scope))
  }

  func evaluate(_ arguments: CallArguments, in scope: Scope) throws -> Arguments {
    var result = Arguments()
    for expression in arguments.positional {
      result.positional.append(try evaluate(expression, in: scope))
    }
    for (name, expression) in arguments.keyword {
      result.keyword.append((name, try evaluate(expression, in: scope)))
    }
    if let unpacked = arguments.unpackedPositional {
      result.positional += try items(of: evaluate(unpacked, in: scope))
    }
    if let unpacked = arguments.unpackedKeyword {
      guard case .dictionary(let mapping) = try evaluate(unpacked, in: scope) else {
        throw TemplateError.runtime("the argument after ** must be a mapping")
      }
      for (key, value) in mapping.entries {
        guard case .string(let name) = key else {
          throw TemplateError.runtime("keywords must be strings")
        }
        guard !result.keyword.contains(where: { $0.name == name.text }) else {
          throw TemplateError.runtime("got multiple values for keyword argument '\(name.text)'")
        }
        result.keyword.append((name.text, value))
      }
    }
    return result
  }

  func call(_ callee: Value, _ arguments: Arguments) throws -> Value {
    switch callee {
    case .macro(let macro): return try call(macro, arguments)
    case .method(let method): return try callMethod(method.name, of: method.receiver, arguments)
    case .function(let function): return try call(function, arguments)
    case .loop(let loop):
      let bound = try arguments.bind("loop", ["iterable"], required: 1)
      return try recurse(loop, over: bound[0] ?? .none)
    case .joiner(let joiner):
      defer { joiner.isUsed = true }
      return .string(joiner.isUsed ? joiner.separator : "")
    case .undefined(let undefined): throw failure(undefined)
    default: throw TemplateError.runtime("'\(typeName(callee))' object is not callable")
    }
  }

  // MARK: Filters

  private func filter(
    _ input: Expression?, _ name: String, _ arguments: CallArguments, in scope: Scope
  ) throws -> Value {
    guard let input else { throw TemplateError.runtime("the filter '\(name)' has no input") }
    return try filter(name, evaluate(input, in: scope), evaluate(arguments, in: scope))
  }

  func filter(_ name: String, _ value: Value, _ arguments: Arguments) throws -> Value {
    guard let filter = Filters.all[name] else { throw TemplateError.runtime("No filter named '\(name)'.") }
    return try filter(self, value, arguments)
  }

  func test(_ name: String, _ value: Value, _ arguments: Arguments) throws -> Bool {
    guard let test = Tests.all[name] else { throw TemplateError.runtime("No test named '\(name)'.") }
    return try test(self, value, arguments)
  }

  /// The filters of a block, whose innermost input is the block's text.
  func apply(_ filter: Expression, toBlock value: Value, in scope: Scope) throws -> Value {
    guard case .filter(let input, let name, let arguments) = filter.kind else { return value }
    try checkStack()
    let text = try input.map { try apply($0, toBlock: value, in: scope) } ?? value
    return try self.filter(name, text, evaluate(arguments, in: scope))
  }
}
