import OrderedCollections

extension Filters {
  static let sequences: [String: Filter] = [
    "length": { interpreter, value, _ in .integer(try interpreter.count(of: value)) },
    "list": { interpreter, value, _ in try interpreter.list(interpreter.items(of: value)) },
    "first": { interpreter, value, _ in
      if case .iterator(let iterator) = value { return iterator.next() ?? empty("first") }
      return try interpreter.items(of: value).first ?? empty("first")
    },
    "last": { interpreter, value, _ in
      if case .iterator = value { throw notReversible(interpreter, value) }
      return try interpreter.items(of: value).last ?? empty("last")
    },
    "reverse": { interpreter, value, _ in
      if case .string(let text) = value { return .string(String(text.unicodeScalars.reversed())) }
      let items = try interpreter.items(of: value)
      if case .iterator = value { return try interpreter.list(items.reversed()) }
      return try interpreter.iterator(items.reversed(), name: "list_reverseiterator")
    },
    "join": { interpreter, value, arguments in
      let bound = try arguments.bind("join", ["d", "attribute"])
      var items = try interpreter.items(of: value)
      if let attribute = bound[1].given {
        items = try items.map { try interpreter.look(up: attribute, in: $0) }
      }
      let separator = try bound[0].map { try interpreter.text(of: $0) } ?? ""
      return .string(try interpreter.join(items.map { try interpreter.text(of: $0) }, separator))
    },
    "items": { interpreter, value, _ in
      if case .undefined = value { return try interpreter.iterator([]) }
      guard case .dictionary(let mapping) = value else {
        throw TemplateError.runtime("Can only get item pairs from a mapping.")
      }
      return try interpreter.iterator(interpreter.items(of: .view(.init(kind: .items, mapping: mapping))))
    },
    "map": { interpreter, value, arguments in
      guard interpreter.isTrue(value) else { return try interpreter.iterator([]) }
      var rest = arguments
      if rest.positional.isEmpty {
        let bound = try rest.bind("map", ["attribute", "default"])
        guard let attribute = bound[0] else { throw TemplateError.runtime("map requires a filter argument") }
        return try interpreter.iterator(
          interpreter.items(of: value).map {
            try interpreter.look(up: attribute, in: $0, default: bound[1].given)
          })
      }
      let name = try interpreter.string(rest.positional.removeFirst(), "a filter's name")
      return try interpreter.iterator(
        interpreter.items(of: value).map { try interpreter.filter(name, $0, rest) })
    },
    "select": { try $0.select($1, $2, byAttribute: false, keeps: true) },
    "reject": { try $0.select($1, $2, byAttribute: false, keeps: false) },
    "selectattr": { try $0.select($1, $2, byAttribute: true, keeps: true) },
    "rejectattr": { try $0.select($1, $2, byAttribute: true, keeps: false) },
    "sort": { interpreter, value, arguments in
      let bound = try arguments.bind("sort", ["reverse", "case_sensitive", "attribute"])
      let isCaseSensitive = bound[1].map(interpreter.isTrue) ?? false
      var attributes: [Value?] = [nil]
      if case .string(let names)? = bound[2].given {
        attributes = names.split(separator: ",", omittingEmptySubsequences: false).map { .string(String($0)) }
      } else if let attribute = bound[2].given {
        attributes = [attribute]
      }
      let keyed = try interpreter.items(of: value).map { item in
        let keys = try attributes.map { attribute in
          let key = try attribute.map { try interpreter.look(up: $0, in: item) } ?? item
          return isCaseSensitive ? key : key.caseFolded
        }
        return (key: try interpreter.list(keys), item: item)
      }
      let isReversed = bound[0].map(interpreter.isTrue) ?? false
      return try interpreter.list(interpreter.sorted(keyed, isReversed: isReversed).map(\.item))
    },
    "unique": { interpreter, value, arguments in
      let bound = try arguments.bind("unique", ["case_sensitive", "attribute"])
      let isCaseSensitive = bound[0].map(interpreter.isTrue) ?? false
      var seen: Set<Value.Key> = []
      let items = try interpreter.items(of: value).filter { item in
        let key = try bound[1].given.map { try interpreter.look(up: $0, in: item) } ?? item
        return seen.insert(try interpreter.key(isCaseSensitive ? key : key.caseFolded)).inserted
      }
      return try interpreter.iterator(items)
    },
    "min": { try $0.extreme($1, $2, isMaximum: false) },
    "max": { try $0.extreme($1, $2, isMaximum: true) },
    "sum": { interpreter, value, arguments in
      let bound = try arguments.bind("sum", ["attribute", "start"])
      var total = bound[1] ?? .integer(0)
      if case .string = total {
        throw TemplateError.runtime("sum() can't sum strings [use ''.join(seq) instead]")
      }
      for item in try interpreter.items(of: value) {
        total = try interpreter.apply(
          .add, total, bound[0].given.map { try interpreter.look(up: $0, in: item) } ?? item)
      }
      return total
    },
    "batch": { interpreter, value, arguments in
      let bound = try arguments.bind("batch", ["linecount", "fill_with"], required: 1)
      let size = try interpreter.integer(bound[0] ?? .none, "the size of a batch")
      var batches: [Value] = []
      var batch: [Value] = []
      for item in try interpreter.items(of: value) {
        if batch.count == size {
          batches.append(try interpreter.list(batch))
          batch = []
        }
        batch.append(item)
      }
      if !batch.isEmpty {
        if let fill = bound[1].given, batch.count < size {
          try interpreter.charge(size - batch.count)
          batch += Array(repeating: fill, count: size - batch.count)
        }
        batches.append(try interpreter.list(batch))
      }
      return try interpreter.iterator(batches)
    },
    "slice": { interpreter, value, arguments in
      let bound = try arguments.bind("slice", ["slices", "fill_with"], required: 1)
      let slices = try interpreter.integer(bound[0] ?? .none, "the number of slices")
      guard slices != 0 else { throw TemplateError.runtime("integer division or modulo by zero") }
      let items = try interpreter.items(of: value)
      try interpreter.charge(max(0, slices))
      var result: [Value] = []
      var start = 0
      for index in 0..<max(0, slices) {
        let hasExtra = index < items.count % slices
        let end = start + items.count / slices + (hasExtra ? 1 : 0)
        var slice = Array(items[start..<end])
        if let fill = bound[1].given, !hasExtra { slice.append(fill) }
        result.append(try interpreter.list(slice))
        start = end
      }
      return try interpreter.iterator(result)
    },
    "groupby": { interpreter, value, arguments in
      let bound = try arguments.bind("groupby", ["attribute", "default", "case_sensitive"], required: 1)
      let attribute = bound[0] ?? .none
      let isCaseSensitive = bound[2].map(interpreter.isTrue) ?? false
      let keyed = try interpreter.items(of: value).map { item in
        let key = try interpreter.look(up: attribute, in: item, default: bound[1].given)
        return (key: isCaseSensitive ? key : key.caseFolded, item: item)
      }
      var groups: [(key: Value, items: [Value])] = []
      for (key, item) in try interpreter.sorted(keyed, isReversed: false) {
        if let last = groups.last, try interpreter.areEqual(last.key, key) {
          groups[groups.count - 1].items.append(item)
        } else {
          groups.append((key, [item]))
        }
      }
      return try interpreter.list(
        groups.map { group in
          let grouper = try interpreter.look(up: attribute, in: group.items[0], default: bound[1].given)
          return try interpreter.tuple(
            [grouper, interpreter.list(group.items)], fields: ["grouper", "list"])
        })
    },
    "dictsort": { interpreter, value, arguments in
      let bound = try arguments.bind("dictsort", ["case_sensitive", "by", "reverse"])
      guard case .dictionary(let mapping) = value else {
        throw TemplateError.runtime("dictsort needs a mapping, not '\(interpreter.typeName(value))'")
      }
      let by = try bound[1].map { try interpreter.string($0, "what to sort by") } ?? "key"
      guard by == "key" || by == "value" else {
        throw TemplateError.runtime("You can only sort by either \"key\" or \"value\"")
      }
      let isCaseSensitive = bound[0].map(interpreter.isTrue) ?? false
      let keyed = try mapping.entries.map { entry in
        let name = try interpreter.value(of: entry.key)
        let key = by == "key" ? name : entry.value
        return (
          key: isCaseSensitive ? key : key.caseFolded, item: try interpreter.tuple([name, entry.value])
        )
      }
      let isReversed = bound[2].map(interpreter.isTrue) ?? false
      return try interpreter.list(interpreter.sorted(keyed, isReversed: isReversed).map(\.item))
    },
  ]

  private static func empty(_ which: String) -> Value {
    .undefined(.init(message: "No \(which) item, sequence was empty."))
  }

  private static func notReversible(_ interpreter: Interpreter, _ value: Value) -> TemplateError {
    .runtime("'\(interpreter.typeName(value))' object is not reversible")
  }
}

extension Value {
  /// A string in lower case, anything else as it is: how filters compare by default.
  fileprivate var caseFolded: Value {
    if case .string(let text) = self { .string(text.pythonLowercased) } else { self }
  }
}

extension Interpreter {
  /// The attribute that a filter's argument names: `"a.0.b"` or an index.
  fileprivate func look(up attribute: Value, in value: Value, default fallback: Value? = nil) throws -> Value
  {
    var value = value
    var parts = [attribute]
    if case .string(let path) = attribute {
      parts = path.split(separator: ".", omittingEmptySubsequences: false).map { part in
        part.utf8.allSatisfy { (48...57).contains($0) }
          ? Int(part).map(Value.integer) ?? .string(String(part)) : .string(String(part))
      }
    }
    for part in parts {
      value = try item(part, of: value)
      if let fallback, case .undefined = value { value = fallback }
    }
    return value
  }

  /// Sorted by key; equal ones keep their order, in the reverse order too.
  fileprivate func sorted(
    _ items: [(key: Value, item: Value)], isReversed: Bool
  ) throws -> [(key: Value, item: Value)] {
    try items.enumerated().sorted { a, b in
      let (first, second) = isReversed ? (b, a) : (a, b)
      if try isLess(first.element.key, second.element.key) { return true }
      return try !isLess(second.element.key, first.element.key) && a.offset < b.offset
    }.map(\.element)
  }

  fileprivate func extreme(_ value: Value, _ arguments: Arguments, isMaximum: Bool) throws -> Value {
    let bound = try arguments.bind(isMaximum ? "max" : "min", ["case_sensitive", "attribute"])
    let isCaseSensitive = bound[0].map(isTrue) ?? false
    var best: (key: Value, item: Value)?
    for item in try items(of: value) {
      let key = try bound[1].given.map { try look(up: $0, in: item) } ?? item
      let folded = isCaseSensitive ? key : key.caseFolded
      guard let current = best else {
        best = (folded, item)
        continue
      }
      if try isMaximum ? isLess(current.key, folded) : isLess(folded, current.key) { best = (folded, item) }
    }
    return best?.item ?? .undefined(.init(message: "No aggregated item, sequence was empty."))
  }

  /// `select`, `reject`, `selectattr` and `rejectattr`.
  fileprivate func select(
    _ value: Value, _ arguments: Arguments, byAttribute: Bool, keeps: Bool
  ) throws -> Value {
    guard isTrue(value) else { return try iterator([]) }
    var rest = arguments
    var attribute: Value?
    if byAttribute {
      guard !rest.positional.isEmpty else {
        throw TemplateError.runtime("Missing parameter for attribute name")
      }
      attribute = rest.positional.removeFirst()
    }
    let name = try rest.positional.isEmpty ? nil : string(rest.positional.removeFirst(), "a test's name")
    let items = try items(of: value).filter { item in
      let subject = try attribute.map { try look(up: $0, in: item) } ?? item
      return try (name.map { try test($0, subject, rest) } ?? isTrue(subject)) == keeps
    }
    return try iterator(items)
  }
}
