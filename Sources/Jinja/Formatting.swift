import Foundation

/// Python's three ways to format text: `%`, `str.format` and format specifications.
extension Interpreter {
  // MARK: printf style

  /// `format % value`.
  func printf(_ format: String, _ value: Value) throws -> String {
    var positional: ArraySlice<Value>
    var isMapping = false
    switch value {
    case .tuple(let sequence): positional = sequence.items[...]
    case .dictionary, .list, .range: (positional, isMapping) = ([value], true)
    default: positional = [value]
    }
    var usesMapping = false
    func nextArgument() throws -> Value {
      guard let next = positional.popFirst() else {
        throw TemplateError.runtime("not enough arguments for format string")
      }
      return next
    }

    var result = ""
    var rest = Array(format.unicodeScalars)[...]
    while let scalar = rest.popFirst() {
      guard scalar == "%" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      var argument: Value?
      if rest.first == "(" {
        rest.removeFirst()
        var depth = 1
        var name = ""
        while let next = rest.popFirst() {
          if next == "(" { depth += 1 }
          if next == ")" { depth -= 1 }
          if depth == 0 { break }
          name.unicodeScalars.append(next)
        }
        guard depth == 0 else { throw TemplateError.runtime("incomplete format key") }
        guard case .dictionary(let mapping) = value else {
          throw TemplateError.runtime("format requires a mapping")
        }
        guard let found = mapping.entries[.string(.init(text: name))] else {
          throw TemplateError.runtime("the format's key '\(name)' is not in the mapping")
        }
        argument = found
        usesMapping = true
      }
      var spec = FormatSpecification()
      spec.alignment = ">"
      var isLeft = false
      flags: while let flag = rest.first {
        switch flag {
        case "-": isLeft = true
        case "+": spec.sign = "+"
        case " ": if spec.sign != "+" { spec.sign = " " }
        case "#": spec.isAlternate = true
        case "0": spec.fill = "0"
        default: break flags
        }
        rest.removeFirst()
      }
      func number() throws -> Int? {
        if rest.first == "*" {
          rest.removeFirst()
          return try integer(nextArgument(), "a width")
        }
        var number: Int?
        while let digit = rest.first?.digit(radix: 10) {
          number = min((number ?? 0) * 10 + digit, 1 << 40)
          rest.removeFirst()
        }
        return number
      }
      if let width = try number() {
        isLeft = isLeft || width < 0
        spec.width = Int(min(width.magnitude, 1 << 40))
      }
      if rest.first == "." {
        rest.removeFirst()
        spec.precision = max(0, try number() ?? 0)
      }
      while let modifier = rest.first, ["h", "l", "L"].contains(modifier) { rest.removeFirst() }
      guard let conversion = rest.popFirst() else { throw TemplateError.runtime("incomplete format") }
      if conversion == "%" {
        result += "%"
        continue
      }
      let operand = try argument ?? nextArgument()
      if isLeft { (spec.alignment, spec.fill) = ("<", " ") }
      result += try printf(conversion, operand, spec)
      try charge(bytes: result.utf8.count)
    }
    guard positional.isEmpty || usesMapping || (isMapping && !positional.isEmpty) else {
      throw TemplateError.runtime("not all arguments converted during string formatting")
    }
    return result
  }

  private func printf(_ conversion: Unicode.Scalar, _ value: Value, _ spec: FormatSpecification) throws
    -> String
  {
    var spec = spec
    switch conversion {
    case "s", "r", "a":
      var text = try conversion == "s" ? text(of: value) : representation(value)
      if let precision = spec.precision { text = String(text.unicodeScalars.prefix(precision)) }
      spec.fill = " "
      return try pad(text, spec)
    case "c":
      if case .string(let text) = value, text.unicodeScalars.count == 1 { return try pad(text, spec) }
      guard let code = value.asInteger.flatMap({ UInt32(exactly: $0) }), let scalar = Unicode.Scalar(code)
      else {
        throw TemplateError.runtime("%c requires int or char")
      }
      return try pad(String(scalar), spec)
    case "d", "i", "u", "x", "X", "o":
      var integer = value.asInteger
      if integer == nil, case .float(let float) = value, "diu".unicodeScalars.contains(conversion) {
        integer = Int(exactly: float.rounded(.towardZero))
      }
      guard let integer else {
        throw TemplateError.runtime("%\(conversion) format: a number is required, not \(typeName(value))")
      }
      spec.type = "diu".unicodeScalars.contains(conversion) ? "d" : conversion
      let precision = spec.precision
      spec.precision = nil
      var digits = digits(integer.magnitude, spec)
      if let precision { digits.text = try pad(digits.text, to: precision, with: "0", "rjust") }
      return try padNumber(sign(integer < 0, spec) + digits.prefix, digits.text, spec)
    case "e", "E", "f", "F", "g", "G":
      guard let double = value.asDouble else {
        throw TemplateError.runtime("must be real number, not \(typeName(value))")
      }
      spec.type = conversion
      return try padNumber(
        sign(double.sign == .minus && !double.isNaN, spec), digits(double.magnitude, spec), spec)
    default: throw TemplateError.runtime("unsupported format character '\(conversion)'")
    }
  }

  // MARK: str.format

  /// `text.format(...)`.
  func format(_ text: String, _ arguments: Arguments) throws -> String {
    var automatic = 0
    return try format(Array(text.unicodeScalars), arguments, &automatic, nesting: 2)
  }

  private func format(
    _ text: [Unicode.Scalar], _ arguments: Arguments, _ automatic: inout Int, nesting: Int
  ) throws -> String {
    guard nesting > 0 else { throw TemplateError.runtime("Max string recursion exceeded") }
    var result = ""
    var index = 0
    while index < text.count {
      let scalar = text[index]
      index += 1
      guard scalar == "{" || scalar == "}" else {
        result.unicodeScalars.append(scalar)
        continue
      }
      if index < text.count, text[index] == scalar {
        result.unicodeScalars.append(scalar)
        index += 1
        continue
      }
      guard scalar == "{" else { throw TemplateError.runtime("Single '}' encountered in format string") }
      let start = index
      var depth = 1
      while index < text.count {
        if text[index] == "{" { depth += 1 }
        if text[index] == "}" { depth -= 1 }
        index += 1
        if depth == 0 { break }
      }
      guard depth == 0 else { throw TemplateError.runtime("expected '}' before end of string") }
      let field = text[start..<(index - 1)]
      let nameEnd = field.firstIndex { $0 == "!" || $0 == ":" } ?? field.endIndex
      var value = try lookUp(field: Array(field[..<nameEnd]), arguments, &automatic)
      var rest = field[nameEnd...]
      if rest.first == "!" {
        rest = rest.dropFirst()
        switch rest.popFirst() {
        case "s": value = .string(try self.text(of: value))
        case "r", "a": value = .string(try representation(value))
        default: throw TemplateError.runtime("Unknown conversion specifier in format string")
        }
      }
      let specification =
        rest.first == ":"
        ? try format(Array(rest.dropFirst()), arguments, &automatic, nesting: nesting - 1) : ""
      result += try format(value, specification)
      try charge(bytes: result.utf8.count)
    }
    return result
  }

  private func lookUp(
    field: [Unicode.Scalar], _ arguments: Arguments, _ automatic: inout Int
  ) throws -> Value {
    let end = field.firstIndex { $0 == "." || $0 == "[" } ?? field.endIndex
    let name = String(field[..<end])
    var value: Value
    if name.isEmpty || Int(name) != nil {
      let index = Int(name) ?? automatic
      if name.isEmpty { automatic += 1 }
      guard arguments.positional.indices.contains(index) else {
        throw TemplateError.runtime("Replacement index \(index) out of range for positional args tuple")
      }
      value = arguments.positional[index]
    } else {
      guard let found = arguments.keyword.first(where: { $0.name == name }) else {
        throw TemplateError.runtime("the format's field '\(name)' was not given")
      }
      value = found.value
    }
    var rest = field[end...]
    while let first = rest.popFirst() {
      if first == "." {
        let part = rest.prefix { $0 != "." && $0 != "[" }
        rest = rest[part.endIndex...]
        value = try attribute(String(part), of: value)
      } else {
        let part = rest.prefix { $0 != "]" }
        rest = rest[part.endIndex...].dropFirst()
        let key = String(part)
        value = try item(Int(key).map(Value.integer) ?? .string(key), of: value)
      }
    }
    return value
  }

  /// `format(value, specification)`.
  private func format(_ value: Value, _ specification: String) throws -> String {
    if specification.isEmpty { return try text(of: value) }
    var spec = try FormatSpecification(specification)
    switch value {
    case .integer, .bool, .float:
      let isInteger = value.asInteger != nil
      if case .bool = value, spec.type == nil { return try format(.string(text(of: value)), specification) }
      if spec.alignment == nil { spec.alignment = ">" }
      if isInteger, let integer = value.asInteger, spec.type.map("dxXobn".unicodeScalars.contains) ?? true {
        guard spec.precision == nil else {
          throw TemplateError.runtime("Precision not allowed in integer format specifier")
        }
        let digits = digits(integer.magnitude, spec)
        return try padNumber(sign(integer < 0, spec) + digits.prefix, group(digits.text, spec), spec)
      }
      guard var double = value.asDouble, spec.type.map("eEfFgG%".unicodeScalars.contains) ?? true else {
        throw TemplateError.runtime("Unknown format code for object of type '\(typeName(value))'")
      }
      var suffix = ""
      if spec.type == "%" {
        double *= 100
        spec.type = "f"
        suffix = "%"
      }
      let isNegative = double.sign == .minus && !double.isNaN
      let digits = digits(double.magnitude, spec)
      return try padNumber(sign(isNegative, spec), group(digits, spec) + suffix, spec)
    case .string(let text):
      guard spec.type == nil || spec.type == "s", spec.sign == nil, spec.alignment != "=" else {
        throw TemplateError.runtime(
          "a format specification for numbers, '\(specification)', was given a string")
      }
      return try pad(spec.precision.map { String(text.unicodeScalars.prefix($0)) } ?? text, spec)
    default:
      throw TemplateError.runtime("unsupported format string passed to \(typeName(value)).__format__")
    }
  }

  // MARK: Digits and padding

  private func sign(_ isNegative: Bool, _ spec: FormatSpecification) -> String {
    isNegative ? "-" : spec.sign.map { $0 == "-" ? "" : String($0) } ?? ""
  }

  private func digits(_ magnitude: UInt, _ spec: FormatSpecification) -> (prefix: String, text: String) {
    switch spec.type {
    case "x": (spec.isAlternate ? "0x" : "", String(magnitude, radix: 16))
    case "X": (spec.isAlternate ? "0X" : "", String(magnitude, radix: 16, uppercase: true))
    case "o": (spec.isAlternate ? "0o" : "", String(magnitude, radix: 8))
    case "b": (spec.isAlternate ? "0b" : "", String(magnitude, radix: 2))
    default: ("", String(magnitude))
    }
  }

  private func digits(_ magnitude: Double, _ spec: FormatSpecification) -> String {
    guard let type = spec.type else {
      guard let precision = spec.precision else { return magnitude.pythonRepresentation }
      let text = String(format: "%.\(min(max(precision, 1), 1000))g", magnitude)
      return magnitude.isFinite && !text.contains(".") && !text.contains("e") ? text + ".0" : text
    }
    let flag = spec.isAlternate ? "#" : ""
    return String(format: "%\(flag).\(min(spec.precision ?? 6, 1000))\(type)", magnitude)
  }

  private func group(_ digits: String, _ spec: FormatSpecification) -> String {
    guard let separator = spec.grouping else { return digits }
    let whole = digits.prefix { $0.isHexDigit }
    var grouped = ""
    for (index, digit) in whole.enumerated() {
      if index > 0, (whole.count - index).isMultiple(of: 3) { grouped.unicodeScalars.append(separator) }
      grouped.append(digit)
    }
    return grouped + digits.dropFirst(whole.count)
  }

  private func padNumber(_ sign: String, _ digits: String, _ spec: FormatSpecification) throws -> String {
    guard spec.alignment == "=" || (spec.fill == "0" && spec.alignment == ">") else {
      return try pad(sign + digits, spec)
    }
    return sign + (try pad(digits, to: spec.width - sign.utf8.count, with: String(spec.fill), "rjust"))
  }

  private func pad(_ text: String, _ spec: FormatSpecification) throws -> String {
    let missing = spec.width - text.unicodeScalars.count
    guard missing > 0 else { return text }
    try charge(bytes: missing * 4 + text.utf8.count)
    let left =
      spec.alignment == ">" || spec.alignment == "=" ? missing : spec.alignment == "^" ? missing / 2 : 0
    return String(repeating: String(spec.fill), count: left) + text
      + String(repeating: String(spec.fill), count: missing - left)
  }
}

/// `[[fill]align][sign][#][0][width][grouping][.precision][type]`.
struct FormatSpecification {
  var fill: Unicode.Scalar = " "
  var alignment: Unicode.Scalar?
  var sign: Unicode.Scalar?
  var isAlternate = false
  var width = 0
  var grouping: Unicode.Scalar?
  var precision: Int?
  var type: Unicode.Scalar?

  init() {}

  init(_ text: String) throws {
    var rest = Array(text.unicodeScalars)[...]
    func isAlignment(_ scalar: Unicode.Scalar) -> Bool { "<>=^".unicodeScalars.contains(scalar) }
    if rest.count >= 2, isAlignment(rest[rest.startIndex + 1]) {
      fill = rest.removeFirst()
      alignment = rest.removeFirst()
    } else if let first = rest.first, isAlignment(first) {
      alignment = rest.removeFirst()
    }
    if let first = rest.first, "+- ".unicodeScalars.contains(first) { sign = rest.removeFirst() }
    if rest.first == "#" {
      isAlternate = true
      rest.removeFirst()
    }
    if rest.first == "0" {
      rest.removeFirst()
      if alignment == nil { (fill, alignment) = ("0", "=") }
    }
    func number() -> Int? {
      var number: Int?
      while let digit = rest.first?.digit(radix: 10) {
        number = min((number ?? 0) * 10 + digit, 1 << 40)
        rest.removeFirst()
      }
      return number
    }
    width = number() ?? 0
    if let first = rest.first, first == "," || first == "_" { grouping = rest.removeFirst() }
    if rest.first == "." {
      rest.removeFirst()
      guard let digits = number() else { throw TemplateError.runtime("Format specifier missing precision") }
      precision = digits
    }
    if let last = rest.popFirst() { type = last }
    guard rest.isEmpty else { throw TemplateError.runtime("Invalid format specifier '\(text)'") }
  }
}
