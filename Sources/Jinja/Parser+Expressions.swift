extension Parser {
  private func node(_ kind: Expression.Kind, _ line: Int) throws -> Expression {
    let expression = Expression(kind, line: line)
    guard expression.depth <= Self.maximumDepth else {
      throw syntax("the expression is nested too deeply", line: line)
    }
    return expression
  }

  /// One expression, or several with commas between them, which make a tuple.
  mutating func tupleOrExpression(
    allowsConditional: Bool = true, ends: [String] = [], isParenthesized: Bool = false
  ) throws -> Expression {
    let line = current.line
    var items: [Expression] = []
    var isTuple = false
    while true {
      if !items.isEmpty {
        guard skip(symbol: ",") else { break }
        isTuple = true
      }
      if isTupleEnd(ends) { break }
      items.append(try allowsConditional ? expression() : disjunction())
    }
    if isTuple { return try node(.tuple(items), line) }
    if let only = items.first { return only }
    guard isParenthesized else {
      throw syntax("Expected an expression, got '\(current.description)'")
    }
    return try node(.tuple([]), line)
  }

  /// `a if test else b`.
  mutating func expression() throws -> Expression {
    do { try stack.check() } catch { throw syntax("the expression is nested too deeply") }
    let line = current.line
    var value = try disjunction()
    while skip(name: "if") {
      let test = try disjunction()
      let otherwise = skip(name: "else") ? try expression() : nil
      value = try node(.conditional(test: test, then: value, otherwise: otherwise), line)
    }
    return value
  }

  mutating func disjunction() throws -> Expression {
    var left = try conjunction()
    while isName("or") {
      let line = current.line
      advance()
      left = try node(.or(left, try conjunction()), line)
    }
    return left
  }

  private mutating func conjunction() throws -> Expression {
    var left = try negation()
    while isName("and") {
      let line = current.line
      advance()
      left = try node(.and(left, try negation()), line)
    }
    return left
  }

  private mutating func negation() throws -> Expression {
    let line = current.line
    var count = 0
    while skip(name: "not") { count += 1 }
    var value = try comparison()
    // More than two change nothing that one or two do not, so that a thousand cost no depth.
    for _ in 0..<(count > 2 ? 2 - count % 2 : count) { value = try node(.unary(.not, value), line) }
    return value
  }

  private mutating func comparison() throws -> Expression {
    let line = current.line
    let first = try sum()
    var rest: [(operation: ComparisonOperator, operand: Expression)] = []
    while true {
      if case .symbol(let symbol) = current.kind, let comparison = ComparisonOperator(rawValue: symbol) {
        advance()
        rest.append((comparison, try sum()))
      } else if skip(name: "in") {
        rest.append((.isIn, try sum()))
      } else if isName("not"), lookahead.kind == .name("in") {
        advance()
        advance()
        rest.append((.notIn, try sum()))
      } else {
        return rest.isEmpty ? first : try node(.comparison(first, rest), line)
      }
    }
  }

  private mutating func sum() throws -> Expression {
    var left = try concatenation()
    while isSymbol("+") || isSymbol("-") {
      let line = current.line
      let operation: BinaryOperator = isSymbol("+") ? .add : .subtract
      advance()
      left = try node(.binary(operation, left, try concatenation()), line)
    }
    return left
  }

  private mutating func concatenation() throws -> Expression {
    let line = current.line
    var items = [try product()]
    while skip(symbol: "~") { items.append(try product()) }
    return items.count == 1 ? items[0] : try node(.concatenation(items), line)
  }

  private mutating func product() throws -> Expression {
    var left = try power()
    while case .symbol(let symbol) = current.kind, ["*", "/", "//", "%"].contains(symbol),
      let operation = BinaryOperator(rawValue: symbol)
    {
      let line = current.line
      advance()
      left = try node(.binary(operation, left, try power()), line)
    }
    return left
  }

  private mutating func power() throws -> Expression {
    var left = try unary()
    while isSymbol("**") {
      let line = current.line
      advance()
      // Left to right, which is Jinja's order and not Python's.
      left = try node(.binary(.power, left, try unary()), line)
    }
    return left
  }

  private mutating func unary(allowsFilter: Bool = true) throws -> Expression {
    do { try stack.check() } catch { throw syntax("the expression is nested too deeply") }
    let line = current.line
    var value: Expression
    if skip(symbol: "-") {
      value = try node(.unary(.minus, try unary(allowsFilter: false)), line)
    } else if skip(symbol: "+") {
      value = try node(.unary(.plus, try unary(allowsFilter: false)), line)
    } else {
      value = try primary()
    }
    value = try postfix(value)
    guard allowsFilter else { return value }
    while true {
      if isSymbol("|") {
        guard let filtered = try filters(of: value, startsInline: false) else { return value }
        value = filtered
      } else if isName("is") {
        value = try test(value)
      } else if isSymbol("(") {
        value = try call(value)
      } else {
        return value
      }
    }
  }

  private mutating func primary() throws -> Expression {
    let token = current
    switch token.kind {
    case .name(let name):
      advance()
      switch name {
      case "true", "True": return try node(.constant(.bool(true)), token.line)
      case "false", "False": return try node(.constant(.bool(false)), token.line)
      case "none", "None": return try node(.constant(.none), token.line)
      default:
        noteName(name)
        return try node(.name(name), token.line)
      }
    case .string(var text):
      advance()
      while case .string(let more) = current.kind {
        text += more
        advance()
      }
      return try node(.constant(.string(text)), token.line)
    case .integer(let value):
      advance()
      return try node(.constant(.integer(value)), token.line)
    case .float(let value):
      advance()
      return try node(.constant(.float(value)), token.line)
    case .symbol("("):
      advance()
      let inner = try tupleOrExpression(isParenthesized: true)
      try expect(symbol: ")")
      return inner
    case .symbol("["):
      advance()
      var items: [Expression] = []
      while !isSymbol("]") {
        if !items.isEmpty { try expect(symbol: ",") }
        if isSymbol("]") { break }
        items.append(try expression())
      }
      advance()
      return try node(.list(items), token.line)
    case .symbol("{"):
      advance()
      var pairs: [(key: Expression, value: Expression)] = []
      while !isSymbol("}") {
        if !pairs.isEmpty { try expect(symbol: ",") }
        if isSymbol("}") { break }
        let key = try expression()
        try expect(symbol: ":")
        pairs.append((key, try expression()))
      }
      advance()
      return try node(.dictionary(pairs), token.line)
    default: throw syntax("unexpected '\(token.description)'")
    }
  }

  private mutating func postfix(_ base: Expression) throws -> Expression {
    var value = base
    while true {
      let line = current.line
      if skip(symbol: ".") {
        switch current.kind {
        case .name(let name):
          advance()
          value = try node(.attribute(value, name), line)
        case .integer(let index):
          advance()
          value = try node(.item(value, try node(.constant(.integer(index)), line)), line)
        default: throw syntax("expected name or number")
        }
      } else if skip(symbol: "[") {
        value = try subscripted(value, line)
      } else if isSymbol("(") {
        value = try call(value)
      } else {
        return value
      }
    }
  }

  private mutating func subscripted(_ base: Expression, _ line: Int) throws -> Expression {
    var start: Expression?
    if !isSymbol(":") {
      let index = try expression()
      if isSymbol(",") {
        var items = [index]
        while skip(symbol: ",") { items.append(try expression()) }
        try expect(symbol: "]")
        return try node(.item(base, try node(.tuple(items), line)), line)
      }
      if skip(symbol: "]") { return try node(.item(base, index), line) }
      start = index
    }
    try expect(symbol: ":")
    var stop: Expression?
    var step: Expression?
    if !isSymbol(":"), !isSymbol("]") { stop = try expression() }
    if skip(symbol: ":"), !isSymbol("]") { step = try expression() }
    try expect(symbol: "]")
    return try node(.slice(base, start: start, stop: stop, step: step), line)
  }

  // MARK: Calls, filters, tests

  private mutating func call(_ callee: Expression) throws -> Expression {
    let line = current.line
    return try node(.call(callee, try arguments()), line)
  }

  private mutating func arguments() throws -> CallArguments {
    let line = current.line
    try expect(symbol: "(")
    var arguments = CallArguments()
    var needsComma = false
    func require(_ fits: Bool) throws {
      guard fits else { throw syntax("invalid syntax for function call expression", line: line) }
    }
    while !isSymbol(")") {
      if needsComma {
        try expect(symbol: ",")
        if isSymbol(")") { break }
      }
      needsComma = true
      if skip(symbol: "*") {
        try require(arguments.unpackedPositional == nil && arguments.unpackedKeyword == nil)
        arguments.unpackedPositional = try expression()
      } else if skip(symbol: "**") {
        try require(arguments.unpackedKeyword == nil)
        arguments.unpackedKeyword = try expression()
      } else if case .name(let name) = current.kind, lookahead.kind == .symbol("=") {
        try require(arguments.unpackedKeyword == nil)
        advance()
        advance()
        try require(!arguments.keyword.contains { $0.name == name })
        arguments.keyword.append((name, try expression()))
      } else {
        try require(
          arguments.unpackedPositional == nil && arguments.unpackedKeyword == nil
            && arguments.keyword.isEmpty)
        arguments.positional.append(try expression())
      }
    }
    advance()
    return arguments
  }

  /// The filters that follow; `nil` when there are none and no value either.
  mutating func filters(of value: Expression?, startsInline: Bool) throws -> Expression? {
    var value = value
    var startsInline = startsInline
    while startsInline || isSymbol("|") {
      if !startsInline { advance() }
      startsInline = false
      let line = current.line
      let name = try dottedName()
      let arguments = isSymbol("(") ? try arguments() : CallArguments()
      value = try node(.filter(value, name, arguments), line)
    }
    return value
  }

  private mutating func dottedName() throws -> String {
    var name = try expectName()
    while skip(symbol: ".") { name += "." + (try expectName()) }
    return name
  }

  private mutating func test(_ value: Expression) throws -> Expression {
    let line = current.line
    try expect(name: "is")
    let isNegated = skip(name: "not")
    let name = try dottedName()
    var arguments = CallArguments()
    if isSymbol("(") {
      arguments = try self.arguments()
    } else if startsTestArgument {
      if isName("is") { throw syntax("You cannot chain multiple tests with is") }
      arguments.positional = [try postfix(try primary())]
    }
    let test = try node(.test(value, name, arguments), line)
    return isNegated ? try node(.unary(.not, test), line) : test
  }

  /// Whether the current token begins the argument of a test without parentheses: `is divisibleby 3`.
  private var startsTestArgument: Bool {
    switch current.kind {
    case .name(let name): !["else", "or", "and"].contains(name)
    case .string, .integer, .float, .symbol("["), .symbol("{"): true
    default: false
    }
  }
}
