import OrderedCollections

extension JSONValue {
  /// The text of this value, formatted as Python's `json.dumps` does, so that files look like those
  /// that Hugging Face's libraries write.
  ///
  /// - Parameters:
  ///   - indent: Spaces a level; `nil` puts everything on one line.
  ///   - sortedKeys: Order members by their keys' scalars (`sort_keys`).
  ///   - escapeNonASCII: Write `\uXXXX` for everything outside of ASCII (`ensure_ascii`).
  ///   - itemSeparator: Between elements; `", "`, or `","` when indented.
  ///   - keySeparator: Between key and value.
  ///
  /// As in Python, infinities and NaN come out as `Infinity`, `-Infinity` and `NaN`.
  public func serialized(
    indent: Int? = nil, sortedKeys: Bool = false, escapeNonASCII: Bool = false,
    itemSeparator: String? = nil, keySeparator: String = ": "
  ) -> String {
    serialized(
      indentation: indent.map { String(repeating: " ", count: max(0, $0)) },
      sortedKeys: sortedKeys, escapeNonASCII: escapeNonASCII, itemSeparator: itemSeparator,
      keySeparator: keySeparator)
  }

  /// As above, with any text as one level of indentation, as Python's `indent` can be.
  package func serialized(
    indentation: String?, sortedKeys: Bool, escapeNonASCII: Bool, itemSeparator: String?,
    keySeparator: String
  ) -> String {
    var serializer = JSONSerializer(
      indentation: indentation, sortedKeys: sortedKeys, escapeNonASCII: escapeNonASCII,
      itemSeparator: itemSeparator ?? (indentation == nil ? ", " : ","),
      keySeparator: keySeparator)
    serializer.write(self, depth: 0)
    return String(decoding: serializer.output, as: UTF8.self)
  }

  /// Appends the text of this value, on one line, to `output`.
  package func serialize(into output: inout [UInt8]) {
    var serializer = JSONSerializer(
      indentation: nil, sortedKeys: false, escapeNonASCII: false, itemSeparator: ", ", keySeparator: ": ")
    swap(&serializer.output, &output)
    serializer.write(self, depth: 0)
    swap(&serializer.output, &output)
  }
}

private struct JSONSerializer {
  let indentation: String?
  let sortedKeys: Bool
  let escapeNonASCII: Bool
  let itemSeparator: String
  let keySeparator: String
  var output: [UInt8] = []

  mutating func write(_ value: JSONValue, depth: Int) {
    switch value {
    case .null: append("null")
    case .bool(let value): append(value ? "true" : "false")
    case .integer(let value): append(String(value))
    case .number(let value) where value.isNaN: append("NaN")
    case .number(let value) where value.isInfinite: append(value < 0 ? "-Infinity" : "Infinity")
    case .number(let value): append(value.pythonRepresentation)
    case .string(let value): write(value)
    case .array(let elements):
      guard !elements.isEmpty else { return append("[]") }
      append("[")
      for (index, element) in elements.enumerated() {
        separate(index, depth: depth + 1)
        write(element, depth: depth + 1)
      }
      breakLine(depth: depth)
      append("]")
    case .object(let members):
      guard !members.isEmpty else { return append("{}") }
      append("{")
      let order =
        sortedKeys
        ? members.elements.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
        : Array(members.elements)
      for (index, member) in order.enumerated() {
        separate(index, depth: depth + 1)
        write(member.key)
        append(keySeparator)
        write(member.value, depth: depth + 1)
      }
      breakLine(depth: depth)
      append("}")
    }
  }

  private mutating func separate(_ index: Int, depth: Int) {
    if index > 0 { append(itemSeparator) }
    breakLine(depth: depth)
  }

  private mutating func breakLine(depth: Int) {
    guard let indentation else { return }
    append("\n")
    for _ in 0..<depth { append(indentation) }
  }

  private mutating func write(_ text: String) {
    append("\"")
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": append("\\\"")
      case "\\": append("\\\\")
      case "\n": append("\\n")
      case "\r": append("\\r")
      case "\t": append("\\t")
      case "\u{08}": append("\\b")
      case "\u{0C}": append("\\f")
      case "\u{00}"..<"\u{20}": escape(UInt16(scalar.value))
      case "\u{20}"..<"\u{7F}": output.append(UInt8(scalar.value))
      default:
        if escapeNonASCII {
          for unit in UTF16.encode(scalar) ?? .init() { escape(unit) }
        } else {
          output.append(contentsOf: UTF8.encode(scalar) ?? .init())
        }
      }
    }
    append("\"")
  }

  private mutating func escape(_ unit: UInt16) {
    let digits = String(unit, radix: 16)
    append("\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits)
  }

  private mutating func append(_ text: String) { output.append(contentsOf: text.utf8) }
}
