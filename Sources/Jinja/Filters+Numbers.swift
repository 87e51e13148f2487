import Foundation

extension Filters {
  static let numbers: [String: Filter] = [
    "abs": { interpreter, value, _ in
      if let integer = value.asInteger {
        guard integer >= 0 else { return try interpreter.apply(.minus, .integer(integer)) }
        return .integer(integer)
      }
      guard case .float(let float) = value else { return try interpreter.apply(.plus, value) }
      return .float(float.magnitude)
    },
    "int": { interpreter, value, arguments in
      let bound = try arguments.bind("int", ["default", "base"])
      let base = try bound[1].map { try interpreter.integer($0, "the base") } ?? 10
      let fallback = bound[0] ?? .integer(0)
      switch value {
      case .undefined(let undefined): throw interpreter.failure(undefined)
      case .string(let text):
        if let integer = parseInteger(text, base: base) { return .integer(integer) }
        guard let float = parseFloat(text) else { return fallback }
        return Int(exactly: float.rounded(.towardZero)).map(Value.integer) ?? fallback
      case .float(let float): return Int(exactly: float.rounded(.towardZero)).map(Value.integer) ?? fallback
      default: return value.asInteger.map(Value.integer) ?? fallback
      }
    },
    "float": { interpreter, value, arguments in
      let fallback = try arguments.bind("float", ["default"])[0] ?? .float(0)
      switch value {
      case .undefined(let undefined): throw interpreter.failure(undefined)
      case .string(let text): return parseFloat(text).map(Value.float) ?? fallback
      default: return value.asDouble.map(Value.float) ?? fallback
      }
    },
    "round": { interpreter, value, arguments in
      let bound = try arguments.bind("round", ["precision", "method"])
      let precision = try bound[0].map { try interpreter.integer($0, "the precision") } ?? 0
      let method = try bound[1].map { try interpreter.string($0, "the method") } ?? "common"
      if case .undefined(let undefined) = value { throw interpreter.failure(undefined) }
      guard ["common", "ceil", "floor"].contains(method) else {
        throw TemplateError.runtime("method must be common, ceil or floor")
      }
      guard let double = value.asDouble, (-300...300).contains(precision) else {
        throw TemplateError.runtime("round needs a number and a precision from -300 to 300")
      }
      guard method == "common" else {
        let scale = pow(10, Double(precision))
        return .float((double * scale).rounded(method == "ceil" ? .up : .down) / scale)
      }
      if let integer = value.asInteger {
        guard precision < 0 else { return .integer(integer) }
        return .integer(Int(round(double, precision)))
      }
      return .float(round(double, precision))
    },
    "filesizeformat": { interpreter, value, arguments in
      let isBinary = try arguments.bind("filesizeformat", ["binary"])[0].map(interpreter.isTrue) ?? false
      var number = value.asDouble
      if case .string(let text) = value { number = parseFloat(text) }
      guard let bytes = number else { throw TemplateError.runtime("filesizeformat needs a number") }
      let base: Double = isBinary ? 1024 : 1000
      if bytes == 1 { return .string("1 Byte") }
      if bytes < base { return .string("\(Int(max(bytes, -1e15))) Bytes") }
      let letters =
        isBinary
        ? ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"] : ["k", "M", "G", "T", "P", "E", "Z", "Y"]
      var unit = base
      for letter in letters.dropLast() {
        if bytes < unit * base { return .string(String(format: "%.1f ", bytes / unit) + letter + "B") }
        unit *= base
      }
      return .string(String(format: "%.1f ", bytes / unit) + (letters.last ?? "") + "B")
    },
  ]

  /// `round(number, precision)`: of the exact value, and half to even.
  private static func round(_ number: Double, _ precision: Int) -> Double {
    if precision == 0 { return number.rounded(.toNearestOrEven) }
    if precision > 0 { return Double(String(format: "%.\(precision)f", number)) ?? number }
    let scale = pow(10, Double(-precision))
    return (number / scale).rounded(.toNearestOrEven) * scale
  }

  /// `int(text, base)`.
  private static func parseInteger(_ text: String, base: Int) -> Int? {
    var digits = Array(text.pythonStripped(nil).utf8)
    var isNegative = false
    if let sign = digits.first, sign == UInt8(ascii: "-") || sign == UInt8(ascii: "+") {
      isNegative = sign == UInt8(ascii: "-")
      digits.removeFirst()
    }
    var base = base
    let prefixes: [(letter: UInt8, base: Int)] = [
      (UInt8(ascii: "x"), 16), (UInt8(ascii: "o"), 8), (UInt8(ascii: "b"), 2),
    ]
    if digits.count > 2, digits[0] == UInt8(ascii: "0"),
      let prefix = prefixes.first(where: { $0.letter == digits[1] | 0x20 }), base == 0 || base == prefix.base
    {
      base = prefix.base
      digits.removeFirst(2)
      if digits.first == UInt8(ascii: "_") { digits.removeFirst() }
    } else if base == 0 {
      base = 10
    }
    guard (2...36).contains(base), let plain = withoutUnderscores(digits) else { return nil }
    return Int((isNegative ? "-" : "") + plain, radix: base)
  }

  /// `float(text)`.
  private static func parseFloat(_ text: String) -> Double? {
    var digits = Array(text.pythonStripped(nil).utf8)
    // Swift also reads hexadecimal floats and payloads of NaN, which Python does not.
    let isWord = digits.contains { ($0 | 0x20) == UInt8(ascii: "n") }
    guard !digits.contains(where: { ($0 | 0x20) == UInt8(ascii: "x") || $0 == UInt8(ascii: "(") }) else {
      return nil
    }
    var sign = ""
    if let first = digits.first, first == UInt8(ascii: "-") || first == UInt8(ascii: "+") {
      sign = first == UInt8(ascii: "-") ? "-" : ""
      digits.removeFirst()
    }
    guard let first = digits.first, first != UInt8(ascii: "-"), first != UInt8(ascii: "+") else { return nil }
    if isWord { return Double(sign + String(decoding: digits, as: UTF8.self)) }
    return withoutUnderscores(digits).flatMap { Double(sign + $0) }
  }

  /// The digits, if every underscore stands between two of them.
  private static func withoutUnderscores(_ digits: [UInt8]) -> String? {
    let underscore = UInt8(ascii: "_")
    guard let first = digits.first, let last = digits.last, first != underscore, last != underscore,
      first != UInt8(ascii: "-"), first != UInt8(ascii: "+"),
      !zip(digits, digits.dropFirst()).contains(where: { $0 == underscore && $1 == underscore })
    else { return nil }
    return String(decoding: digits.filter { $0 != underscore }, as: UTF8.self)
  }
}
