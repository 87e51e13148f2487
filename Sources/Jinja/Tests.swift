/// What can stand after `is`.
///
/// `odd`, `even`, `divisibleby`, `defined`, `undefined`, `filter`, `test`, `none`, `boolean`, `true`, `false`,
/// `integer`, `float`, `number`, `string`, `mapping`, `sequence`, `iterable`, `callable`, `lower`, `upper`,
/// `sameas`, `escaped`, `in`, and the comparisons by sign and by name.
enum Tests {
  typealias Test = @Sendable (Interpreter, Value, Arguments) throws -> Bool

  static let all: [String: Test] = {
    var tests: [String: Test] = [
      "defined": { _, value, _ in if case .undefined = value { false } else { true } },
      "undefined": { _, value, _ in if case .undefined = value { true } else { false } },
      "none": { _, value, _ in if case .none = value { true } else { false } },
      "boolean": { _, value, _ in if case .bool = value { true } else { false } },
      "true": { _, value, _ in if case .bool(true) = value { true } else { false } },
      "false": { _, value, _ in if case .bool(false) = value { true } else { false } },
      "integer": { _, value, _ in if case .integer = value { true } else { false } },
      "float": { _, value, _ in if case .float = value { true } else { false } },
      "number": { _, value, _ in value.asDouble != nil },
      "string": { _, value, _ in if case .string = value { true } else { false } },
      "mapping": { _, value, _ in if case .dictionary = value { true } else { false } },
      "escaped": { _, _, _ in false },
      "sequence": { _, value, _ in
        switch value {
        case .string, .list, .tuple, .dictionary, .range, .undefined: true
        default: false
        }
      },
      "iterable": { _, value, _ in
        switch value {
        case .string, .list, .tuple, .dictionary, .range, .undefined, .view, .iterator, .loop: true
        default: false
        }
      },
      "callable": { _, value, _ in
        switch value {
        case .macro, .method, .function, .loop, .joiner, .undefined: true
        default: false
        }
      },
      "odd": { interpreter, value, _ in try interpreter.remainder(value, .integer(2)) == 1 },
      "even": { interpreter, value, _ in try interpreter.remainder(value, .integer(2)) == 0 },
      "divisibleby": { interpreter, value, arguments in
        let number = try arguments.bind("divisibleby", ["num"], required: 1)[0] ?? .none
        return try interpreter.remainder(value, number) == 0
      },
      "filter": { interpreter, value, _ in
        try Filters.all[interpreter.string(value, "a filter's name")] != nil
      },
      "test": { interpreter, value, _ in try Tests.all[interpreter.string(value, "a test's name")] != nil },
      "lower": { interpreter, value, _ in
        let text = try interpreter.text(of: value)
        return text.isLowercase
      },
      "upper": { interpreter, value, _ in
        let text = try interpreter.text(of: value)
        return text.isUppercase
      },
      "sameas": { interpreter, value, arguments in
        let other = try arguments.bind("sameas", ["other"], required: 1)[0] ?? .none
        guard interpreter.typeName(value) == interpreter.typeName(other) else { return false }
        return try interpreter.areEqual(value, other)
      },
      "in": { interpreter, value, arguments in
        try interpreter.contains(arguments.bind("in", ["seq"], required: 1)[0] ?? .none, value)
      },
    ]
    let comparisons: [(ComparisonOperator, [String])] = [
      (.equal, ["==", "eq", "equalto"]), (.notEqual, ["!=", "ne"]),
      (.greater, [">", "gt", "greaterthan"]), (.greaterOrEqual, [">=", "ge"]),
      (.less, ["<", "lt", "lessthan"]), (.lessOrEqual, ["<=", "le"]),
    ]
    for (comparison, names) in comparisons {
      for name in names {
        tests[name] = { interpreter, value, arguments in
          let other = try arguments.bind(name, ["other"], required: 1)[0] ?? .none
          return try interpreter.compare(value, comparison, other)
        }
      }
    }
    return tests
  }()
}

extension Interpreter {
  /// `value % divisor`, as a number to compare; a text would be a format.
  fileprivate func remainder(_ value: Value, _ divisor: Value) throws -> Double? {
    if case .string = value {
      throw TemplateError.runtime("'\(typeName(value))' is not a number")
    }
    return try apply(.modulo, value, divisor).asDouble
  }
}

extension String {
  /// `str.islower`: something is cased, and nothing is upper or title case.
  var isLowercase: Bool {
    var found = false
    for scalar in unicodeScalars where scalar.isCased {
      if scalar.properties.isUppercase || scalar.properties.generalCategory == .titlecaseLetter {
        return false
      }
      found = true
    }
    return found
  }

  /// `str.isupper`.
  var isUppercase: Bool {
    var found = false
    for scalar in unicodeScalars where scalar.isCased {
      if !scalar.properties.isUppercase { return false }
      found = true
    }
    return found
  }
}
