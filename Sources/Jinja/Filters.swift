import JSON

/// What can stand after `|`: the catalogue. Each filter is in the file of its kind.
///
/// Text: `capitalize`, `center`, `escape` (`e`, `forceescape`), `filesizeformat`, `format`, `indent`, `lower`,
/// `replace`, `safe`, `string`, `striptags`, `title`, `tojson`, `trim`, `truncate`, `upper`, `urlencode`,
/// `wordcount`, `xmlattr`. Numbers: `abs`, `float`, `int`, `round`. Sequences: `batch`, `dictsort`, `first`,
/// `groupby`, `items`, `join`, `last`, `length` (`count`), `list`, `map`, `max`, `min`, `reject`, `rejectattr`,
/// `reverse`, `select`, `selectattr`, `slice`, `sort`, `sum`, `unique`. Any value: `attr`, `default` (`d`).
///
/// Jinja's `pprint`, `random`, `urlize` and `wordwrap` are left out.
enum Filters {
  typealias Filter = @Sendable (Interpreter, Value, Arguments) throws -> Value

  static let all: [String: Filter] = {
    var all = text.merging(sequences) { first, _ in first }.merging(numbers) { first, _ in first }
    all["default"] = { interpreter, value, arguments in
      let bound = try arguments.bind("default", ["default_value", "boolean"])
      let replacesFalse = bound[1].map(interpreter.isTrue) ?? false
      if case .undefined = value { return bound[0] ?? .string("") }
      return replacesFalse && !interpreter.isTrue(value) ? bound[0] ?? .string("") : value
    }
    all["attr"] = { interpreter, value, arguments in
      let name = try interpreter.string(
        arguments.bind("attr", ["name"], required: 1)[0] ?? .none, "an attribute's name")
      // Unlike `value.name`, it never falls back to an item.
      if case .dictionary = value, !interpreter.hasMethod(name, value) {
        return .undefined(.init(message: "'dict object' has no attribute \(name.pythonRepresentation)"))
      }
      return try interpreter.attribute(name, of: value)
    }
    for (alias, name) in [("d", "default"), ("count", "length"), ("e", "escape"), ("forceescape", "escape")] {
      all[alias] = all[name]
    }
    return all
  }()
}
