import Foundation

/// Arithmetic with Python's rules: `//` and `%` round down, `/` makes a float, `+` and `*` also join
/// and repeat, and `%` formats text.
extension Interpreter {
  func apply(_ operation: UnaryOperator, _ value: Value) throws -> Value {
    if operation == .not { return .bool(!isTrue(value)) }
    if case .undefined(let undefined) = value { throw failure(undefined) }
    if let integer = value.asInteger {
      if operation == .plus { return .integer(integer) }
      return try checked(0, "-", integer, Int.subtractingReportingOverflow)
    }
    guard case .float(let float) = value else {
      throw TemplateError.runtime(
        "bad operand type for unary \(operation == .plus ? "+" : "-"): '\(typeName(value))'")
    }
    return .float(operation == .plus ? float : -float)
  }

  func apply(_ operation: BinaryOperator, _ a: Value, _ b: Value) throws -> Value {
    if case .undefined(let undefined) = a { throw failure(undefined) }
    if case .string(let format) = a, operation == .modulo { return .string(try printf(format, b)) }
    if case .undefined(let undefined) = b { throw failure(undefined) }
    if let x = a.asInteger, let y = b.asInteger { return try integers(operation, x, y) }
    if let x = a.asDouble, let y = b.asDouble { return .float(try floats(operation, x, y)) }
    switch (operation, a, b) {
    case (.add, .string(let x), .string(let y)):
      try charge(bytes: x.utf8.count + y.utf8.count)
      return .string(x + y)
    case (.add, .list(let x), .list(let y)): return try list(x.items + y.items)
    case (.add, .tuple(let x), .tuple(let y)): return try tuple(x.items + y.items)
    case (.multiply, let value, let times):
      if let times = times.asInteger, let result = try repeated(value, times) { return result }
      if let count = value.asInteger, let result = try repeated(times, count) { return result }
    default: break
    }
    throw TemplateError.runtime(
      "unsupported operand type(s) for \(operation.rawValue): '\(typeName(a))' and '\(typeName(b))'")
  }

  private func repeated(_ value: Value, _ times: Int) throws -> Value? {
    let times = max(0, times)
    switch value {
    case .string(let text):
      try charge(bytes: product(text.utf8.count, times))
      return .string(String(repeating: text, count: times))
    case .list(let sequence), .tuple(let sequence):
      try charge(product(sequence.items.count, times))
      let items = Array(repeatElement(sequence.items, count: sequence.items.isEmpty ? 0 : times).joined())
      if case .tuple = value { return try tuple(items) }
      return try list(items)
    default: return nil
    }
  }

  /// A product of sizes, at most what no limit allows.
  private func product(_ a: Int, _ b: Int) -> Int {
    let (result, overflow) = a.multipliedReportingOverflow(by: b)
    return overflow || result > 1 << 50 ? 1 << 50 : result
  }

  private func integers(_ operation: BinaryOperator, _ x: Int, _ y: Int) throws -> Value {
    switch operation {
    case .add: return try checked(x, "+", y, Int.addingReportingOverflow)
    case .subtract: return try checked(x, "-", y, Int.subtractingReportingOverflow)
    case .multiply: return try checked(x, "*", y, Int.multipliedReportingOverflow)
    case .divide:
      guard y != 0 else { throw TemplateError.runtime("division by zero") }
      return .float(Double(x) / Double(y))
    case .floorDivide, .modulo:
      guard y != 0 else { throw TemplateError.runtime("integer division or modulo by zero") }
      // The one quotient that does not fit: the smallest integer by -1.
      if y == -1 {
        return operation == .modulo ? .integer(0) : try checked(0, "-", x, Int.subtractingReportingOverflow)
      }
      let (quotient, remainder) = x.quotientAndRemainder(dividingBy: y)
      let roundsDown = remainder != 0 && (remainder < 0) != (y < 0)
      return .integer(
        operation == .modulo ? remainder + (roundsDown ? y : 0) : quotient - (roundsDown ? 1 : 0))
    case .power:
      guard y >= 0 else {
        guard x != 0 else { throw TemplateError.runtime("zero to a negative power") }
        return .float(pow(Double(x), Double(y)))
      }
      var result = Value.integer(1)
      if x == 0 || x == 1 { return .integer(y == 0 ? 1 : x) }
      if x == -1 { return .integer(y.isMultiple(of: 2) ? 1 : -1) }
      for _ in 0..<y {
        result = try checked(result.asInteger ?? 0, "**", x, Int.multipliedReportingOverflow)
      }
      return result
    }
  }

  private func checked(
    _ x: Int, _ symbol: String, _ y: Int, _ operation: (Int) -> (Int) -> (partialValue: Int, overflow: Bool)
  ) throws -> Value {
    let (result, overflow) = operation(x)(y)
    guard !overflow else { throw TemplateError.runtime("\(x) \(symbol) \(y) does not fit 64 bits") }
    return .integer(result)
  }

  private func floats(_ operation: BinaryOperator, _ x: Double, _ y: Double) throws -> Double {
    switch operation {
    case .add: return x + y
    case .subtract: return x - y
    case .multiply: return x * y
    case .power:
      let result = pow(x, y)
      guard !(result.isNaN && !x.isNaN && !y.isNaN), !(result.isInfinite && x.isFinite && y.isFinite) else {
        throw TemplateError.runtime("\(x) ** \(y) is no finite number")
      }
      return result
    case .divide, .floorDivide, .modulo:
      guard y != 0 else { throw TemplateError.runtime("float division by zero") }
      if operation == .divide { return x / y }
      // As CPython's float_divmod does it, so that quotient and remainder fit each other.
      var remainder = fmod(x, y)
      var quotient = (x - remainder) / y
      if remainder != 0 {
        if (y < 0) != (remainder < 0) {
          remainder += y
          quotient -= 1
        }
      } else {
        remainder = y < 0 ? -0.0 : 0.0
      }
      if operation == .modulo { return remainder }
      guard quotient != 0 else { return x / y < 0 ? -0.0 : 0.0 }
      let floored = quotient.rounded(.down)
      return quotient - floored > 0.5 ? floored + 1 : floored
    }
  }
}
