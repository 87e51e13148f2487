/// The evaluated arguments of a call, matched to parameters as Python matches them.
struct Arguments {
  var positional: [Value] = []
  var keyword: [(name: String, value: Value)] = []

  var isEmpty: Bool { positional.isEmpty && keyword.isEmpty }

  /// The arguments in the order of `parameters`; the first `required` must be given.
  func bind(_ function: String, _ parameters: [String], required: Int = 0) throws -> [Value?] {
    guard positional.count <= parameters.count else {
      throw TemplateError.runtime(
        "\(function)() takes at most \(parameters.count) arguments (\(positional.count) given)")
    }
    var bound: [Value?] = positional
    bound += Array(repeating: nil, count: parameters.count - positional.count)
    for (name, value) in keyword {
      guard let index = parameters.firstIndex(of: name) else {
        throw TemplateError.runtime("\(function)() got an unexpected keyword argument '\(name)'")
      }
      guard bound[index] == nil else {
        throw TemplateError.runtime("\(function)() got multiple values for argument '\(name)'")
      }
      bound[index] = value
    }
    for index in 0..<required where bound[index] == nil {
      throw TemplateError.runtime("\(function)() missing the argument '\(parameters[index])'")
    }
    return bound
  }
}

extension Optional where Wrapped == Value {
  /// The argument, unless it was left out or is `none`.
  var given: Value? {
    switch self {
    case nil, .some(.none): nil
    case .some(let value): value
    }
  }
}
