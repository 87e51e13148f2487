/// A literal in a template.
enum Constant: Sendable {
  case none
  case bool(Bool)
  case integer(Int)
  case float(Double)
  case string(String)
}

/// An expression, its line, and how deep the tree below it is.
struct Expression: Sendable {
  indirect enum Kind: Sendable {
    case constant(Constant)
    case name(String)
    case list([Expression])
    case tuple([Expression])
    case dictionary([(key: Expression, value: Expression)])
    case attribute(Expression, String)
    case item(Expression, Expression)
    case slice(Expression, start: Expression?, stop: Expression?, step: Expression?)
    case call(Expression, CallArguments)
    /// `nil` is the text of the block that is filtered.
    case filter(Expression?, String, CallArguments)
    case test(Expression, String, CallArguments)
    case unary(UnaryOperator, Expression)
    case binary(BinaryOperator, Expression, Expression)
    case comparison(Expression, [(operation: ComparisonOperator, operand: Expression)])
    case and(Expression, Expression)
    case or(Expression, Expression)
    case concatenation([Expression])
    case conditional(test: Expression, then: Expression, otherwise: Expression?)
  }

  let kind: Kind
  let line: Int
  let depth: Int

  init(_ kind: Kind, line: Int) {
    self.kind = kind
    self.line = line
    depth = 1 + (Self.children(of: kind).lazy.map(\.depth).max() ?? 0)
  }

  private static func children(of kind: Kind) -> [Expression] {
    switch kind {
    case .constant, .name: []
    case .list(let items), .tuple(let items), .concatenation(let items): items
    case .dictionary(let pairs): pairs.flatMap { [$0.key, $0.value] }
    case .attribute(let base, _), .unary(_, let base): [base]
    case .item(let a, let b), .binary(_, let a, let b), .and(let a, let b), .or(let a, let b): [a, b]
    case .slice(let base, let start, let stop, let step): [base] + [start, stop, step].compactMap(\.self)
    case .call(let base, let arguments), .test(let base, _, let arguments): [base] + arguments.expressions
    case .filter(let base, _, let arguments): (base.map { [$0] } ?? []) + arguments.expressions
    case .comparison(let first, let rest): [first] + rest.map(\.operand)
    case .conditional(let test, let then, let otherwise): [test, then] + (otherwise.map { [$0] } ?? [])
    }
  }
}

/// What stands between the parentheses of a call.
struct CallArguments: Sendable {
  var positional: [Expression] = []
  var keyword: [(name: String, value: Expression)] = []
  var unpackedPositional: Expression?
  var unpackedKeyword: Expression?

  var expressions: [Expression] {
    positional + keyword.map(\.value) + [unpackedPositional, unpackedKeyword].compactMap(\.self)
  }
}

enum UnaryOperator: Sendable { case plus, minus, not }

enum BinaryOperator: String, Sendable {
  case add = "+"
  case subtract = "-"
  case multiply = "*"
  case divide = "/"
  case floorDivide = "//"
  case modulo = "%"
  case power = "**"
}

enum ComparisonOperator: String, Sendable {
  case equal = "=="
  case notEqual = "!="
  case less = "<"
  case lessOrEqual = "<="
  case greater = ">"
  case greaterOrEqual = ">="
  case isIn = "in"
  case notIn = "not in"
}

/// What `set`, `for` and `with` assign to.
indirect enum Target: Sendable {
  case name(String)
  case namespace(String, attribute: String)
  case tuple([Target])

  var names: [String] {
    switch self {
    case .name(let name): [name]
    case .namespace: []
    case .tuple(let targets): targets.flatMap(\.names)
    }
  }
}

/// A macro's, or a call block's, parameters and body.
struct MacroDefinition: Sendable {
  var name: String?
  var parameters: [String] = []
  /// The defaults of the last parameters.
  var defaults: [Expression] = []
  var body: [Statement] = []
  /// Which of the names that Jinja fills in the body mentions.
  var usesCaller = false
  var usesVarargs = false
  var usesKwargs = false
}

struct Statement: Sendable {
  indirect enum Kind: Sendable {
    case text(String)
    case output(Expression)
    case assign(Target, Expression)
    case assignBlock(Target, filter: Expression?, [Statement])
    case conditional([(test: Expression, body: [Statement])], otherwise: [Statement])
    case loop(Loop)
    case macro(MacroDefinition)
    case callBlock(Expression, CallArguments, MacroDefinition)
    case filterBlock(Expression, [Statement])
    case with([(target: Target, value: Expression)], [Statement])
    case scope([Statement])
    case generation([Statement])
    case breakLoop
    case continueLoop
  }

  struct Loop: Sendable {
    var target: Target
    var iterable: Expression
    var test: Expression?
    var isRecursive: Bool
    var body: [Statement]
    var otherwise: [Statement]
  }

  let kind: Kind
  let line: Int
}
