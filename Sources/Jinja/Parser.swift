/// Reads tokens into statements: the grammar of Jinja 3.1, with the tags of chat templates.
///
/// Tags that need other templates (`include`, `import`, `extends`) are refused: a chat template is
/// alone. Expressions are in `Parser+Expressions.swift`.
struct Parser {
  /// How deep a tree may become; freeing it recurses, so it has to stay small.
  static let maximumDepth = 256

  var tokens: [Token]
  var index = 0
  let stack = StackGuard(limit: 200_000)
  private(set) var hasGeneration = false
  private var blocks = 0
  /// The names of the macros' special variables seen so far, for each macro that is being read.
  private var macros: [Set<String>] = []
  /// How many loops surround the statement within its function.
  private var loops = 0

  static func parse(_ source: String) throws -> (statements: [Statement], hasGeneration: Bool) {
    var parser = Parser(tokens: try Lexer.tokenize(source))
    let statements = try parser.body(until: [], opening: nil)
    return (statements, parser.hasGeneration)
  }

  private init(tokens: [Token]) { self.tokens = tokens }

  // MARK: Tokens

  var current: Token { tokens[index] }

  /// The token after the current one.
  var lookahead: Token { tokens[min(index + 1, tokens.count - 1)] }

  mutating func advance() {
    if index < tokens.count - 1 { index += 1 }
  }

  func isSymbol(_ symbol: String) -> Bool { current.kind == .symbol(symbol) }

  func isName(_ name: String) -> Bool { current.kind == .name(name) }

  mutating func skip(symbol: String) -> Bool {
    guard isSymbol(symbol) else { return false }
    advance()
    return true
  }

  mutating func skip(name: String) -> Bool {
    guard isName(name) else { return false }
    advance()
    return true
  }

  mutating func expect(symbol: String) throws {
    guard skip(symbol: symbol) else { throw expected("'\(symbol)'") }
  }

  mutating func expect(name: String) throws {
    guard skip(name: name) else { throw expected("'\(name)'") }
  }

  mutating func expectName() throws -> String {
    guard case .name(let name) = current.kind else { throw expected("a name") }
    advance()
    return name
  }

  private mutating func expect(_ kind: Token.Kind, _ words: String) throws {
    guard current.kind == kind else { throw expected(words) }
    advance()
  }

  func expected(_ what: String) -> TemplateError {
    syntax("expected \(what), got '\(current.description)'")
  }

  func syntax(_ message: String, line: Int? = nil) -> TemplateError {
    TemplateError(.syntax, message, line: line ?? current.line)
  }

  mutating func noteName(_ name: String) {
    guard name == "caller" || name == "varargs" || name == "kwargs" else { return }
    for index in macros.indices { macros[index].insert(name) }
  }

  // MARK: Statements

  /// The statements up to one of the tags `ends`, whose name is then the current token.
  private mutating func body(until ends: [String], opening: (tag: String, line: Int)?) throws -> [Statement] {
    do { try stack.check() } catch { throw syntax("blocks are nested too deeply") }
    blocks += 1
    defer { blocks -= 1 }
    guard blocks <= 100 else { throw syntax("blocks are nested too deeply") }
    var statements: [Statement] = []
    while true {
      let token = current
      switch token.kind {
      case .data(let text):
        advance()
        statements.append(Statement(kind: .text(text), line: token.line))
      case .variableBegin:
        advance()
        let expression = try tupleOrExpression()
        try expect(.variableEnd, "end of print statement")
        statements.append(Statement(kind: .output(expression), line: token.line))
      case .blockBegin:
        advance()
        if case .name(let name) = current.kind, ends.contains(name) { return statements }
        try statement(ends: ends, opening: opening, into: &statements)
        try expect(.blockEnd, "end of statement block")
      case .end:
        guard let opening else { return statements }
        throw syntax(
          "Unexpected end of template: '\(opening.tag)' of line \(opening.line) is not closed; expected "
            + ends.map { "'\($0)'" }.joined(separator: " or "))
      default: throw syntax("unexpected '\(token.description)'")
      }
    }
  }

  /// A tag's body: from the end of the opening tag to one of `ends`.
  private mutating func block(_ tag: String, _ line: Int, until ends: String...) throws -> [Statement] {
    _ = skip(symbol: ":")
    try expect(.blockEnd, "end of statement block")
    return try body(until: ends, opening: (tag, line))
  }

  /// As `block`, for the tags with a single end, which is skipped.
  private mutating func closedBlock(_ tag: String, _ line: Int) throws -> [Statement] {
    let statements = try block(tag, line, until: "end" + tag)
    advance()
    return statements
  }

  private mutating func statement(
    ends: [String], opening: (tag: String, line: Int)?, into statements: inout [Statement]
  ) throws {
    let line = current.line
    guard case .name(let tag) = current.kind else { throw expected("a tag name") }
    advance()
    func add(_ kind: Statement.Kind) { statements.append(Statement(kind: kind, line: line)) }
    switch tag {
    case "set": add(try set(line))
    case "if": add(try conditional(line))
    case "for": add(.loop(try loop(line)))
    case "macro":
      let name = try macroName()
      var macro = MacroDefinition(name: name)
      try signature(&macro)
      try functionBody(&macro, "macro", line)
      add(.macro(macro))
    case "call":
      var caller = MacroDefinition(name: nil)
      if isSymbol("(") { try signature(&caller) }
      guard case .call(let callee, let arguments) = try expression().kind else {
        throw syntax("expected call", line: line)
      }
      try functionBody(&caller, "call", line)
      add(.callBlock(callee, arguments, caller))
    case "filter":
      let filter = try filters(of: nil, startsInline: true)
      guard let filter else { throw expected("a filter") }
      add(.filterBlock(filter, try closedBlock("filter", line)))
    case "with": add(try with(line))
    case "generation":
      hasGeneration = true
      // Jinja compiles the body into a function of its own, which `break` cannot leave.
      var function = MacroDefinition(name: nil)
      try functionBody(&function, "generation", line)
      add(.generation(function.body))
    case "print":
      repeat { add(.output(try expression())) } while skip(symbol: ",")
    case "break", "continue":
      guard loops > 0 else { throw syntax("'\(tag)' outside of a loop", line: line) }
      add(tag == "break" ? .breakLoop : .continueLoop)
    case "block":
      let name = try expectName()
      _ = skip(name: "scoped")
      add(.scope(try closedBlock("block", line)))
      _ = skip(name: name)
    case "autoescape":
      guard case .constant(.bool(false)) = try expression().kind else {
        throw syntax("autoescape escapes HTML, which chat templates do not produce", line: line)
      }
      add(.scope(try closedBlock("autoescape", line)))
    case "include", "import", "from", "extends":
      throw syntax("'\(tag)' needs other templates; a chat template has none", line: line)
    default:
      let hint =
        opening.map {
          "; '\($0.tag)' of line \($0.line) is still open and ends with "
            + ends.map { "'\($0)'" }.joined(separator: " or ")
        } ?? ""
      throw syntax("Encountered unknown tag '\(tag)'\(hint)", line: line)
    }
  }

  private mutating func set(_ line: Int) throws -> Statement.Kind {
    let target = try target(allowsNamespace: true, ends: [])
    if skip(symbol: "=") { return .assign(target, try tupleOrExpression()) }
    let filter = try filters(of: nil, startsInline: false)
    return .assignBlock(target, filter: filter, try closedBlock("set", line))
  }

  private mutating func conditional(_ line: Int) throws -> Statement.Kind {
    var branches: [(test: Expression, body: [Statement])] = []
    var otherwise: [Statement] = []
    while true {
      let test = try tupleOrExpression(allowsConditional: false)
      branches.append((test, try block("if", line, until: "elif", "else", "endif")))
      if skip(name: "elif") { continue }
      if skip(name: "else") { otherwise = try block("if", line, until: "endif") }
      advance()
      return .conditional(branches, otherwise: otherwise)
    }
  }

  private mutating func loop(_ line: Int) throws -> Statement.Loop {
    let target = try target(allowsNamespace: false, ends: ["in"])
    guard !target.names.contains("loop") else {
      throw syntax("Can't assign to special loop variable in for-loop", line: line)
    }
    try expect(name: "in")
    let iterable = try tupleOrExpression(allowsConditional: false, ends: ["recursive"])
    let test = skip(name: "if") ? try expression() : nil
    let isRecursive = skip(name: "recursive")
    loops += 1
    defer { loops -= 1 }
    let body = try block("for", line, until: "endfor", "else")
    var otherwise: [Statement] = []
    if skip(name: "else") {
      loops -= 1
      defer { loops += 1 }
      otherwise = try block("for", line, until: "endfor")
    }
    advance()
    return .init(
      target: target, iterable: iterable, test: test, isRecursive: isRecursive, body: body,
      otherwise: otherwise)
  }

  private mutating func with(_ line: Int) throws -> Statement.Kind {
    var bindings: [(target: Target, value: Expression)] = []
    while current.kind != .blockEnd, !isSymbol(":") {
      if !bindings.isEmpty { try expect(symbol: ",") }
      let target = try target(allowsNamespace: false, ends: [])
      try expect(symbol: "=")
      bindings.append((target, try expression()))
    }
    return .with(bindings, try closedBlock("with", line))
  }

  // MARK: Macros

  private mutating func macroName() throws -> String {
    guard case .name(let name) = try simpleTarget(allowsNamespace: false) else { throw expected("a name") }
    return name
  }

  private mutating func signature(_ macro: inout MacroDefinition) throws {
    try expect(symbol: "(")
    while !isSymbol(")") {
      if !macro.parameters.isEmpty { try expect(symbol: ",") }
      macro.parameters.append(try macroName())
      if skip(symbol: "=") {
        macro.defaults.append(try expression())
      } else if !macro.defaults.isEmpty {
        throw syntax("non-default argument follows default argument")
      }
    }
    advance()
  }

  private mutating func functionBody(_ macro: inout MacroDefinition, _ tag: String, _ line: Int) throws {
    let outerLoops = loops
    loops = 0
    macros.append([])
    macro.body = try closedBlock(tag, line)
    loops = outerLoops
    let used = macros.removeLast()
    macro.usesCaller = used.contains("caller")
    macro.usesVarargs = used.contains("varargs")
    macro.usesKwargs = used.contains("kwargs")
  }

  // MARK: Targets

  private mutating func target(allowsNamespace: Bool, ends: [String]) throws -> Target {
    var targets: [Target] = []
    var isTuple = false
    while true {
      if !targets.isEmpty {
        guard skip(symbol: ",") else { break }
        isTuple = true
      }
      if isTupleEnd(ends) || isSymbol("=") { break }
      targets.append(try simpleTarget(allowsNamespace: allowsNamespace))
    }
    guard let first = targets.first else { throw expected("a name to assign to") }
    return isTuple ? .tuple(targets) : first
  }

  private mutating func simpleTarget(allowsNamespace: Bool) throws -> Target {
    do { try stack.check() } catch { throw syntax("nested too deeply") }
    let line = current.line
    if skip(symbol: "(") {
      let inner = try target(allowsNamespace: allowsNamespace, ends: [])
      try expect(symbol: ")")
      return inner
    }
    let name = try expectName()
    guard !["true", "false", "none", "True", "False", "None"].contains(name) else {
      throw syntax("can't assign to '\(name)'", line: line)
    }
    if allowsNamespace, skip(symbol: ".") { return .namespace(name, attribute: try expectName()) }
    return .name(name)
  }

  func isTupleEnd(_ ends: [String]) -> Bool {
    switch current.kind {
    case .variableEnd, .blockEnd, .symbol(")"): true
    case .name(let name): ends.contains(name)
    default: false
    }
  }
}
