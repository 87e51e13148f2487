import JSON

/// One component of `tokenizer.json`: an object with a `type`, and where it stands in the file.
struct ComponentConfiguration {
  let value: JSONValue
  /// For error messages: "pre_tokenizer.pretokenizers[1]".
  let path: String

  init(_ value: JSONValue, at path: String) throws(TokenizerError) {
    guard case .object = value else {
      throw TokenizerError(
        .malformed,
        "`\(path)` of tokenizer.json is \(value.kind), not an object. Download the file again.")
    }
    self.value = value
    self.path = path
  }

  func type() throws(TokenizerError) -> String { try string("type") }

  func string(_ key: String) throws(TokenizerError) -> String {
    guard let string = value[key]?.stringValue else { throw wrong(key, "a string") }
    return string
  }

  /// The member as a string; nil where it is missing or null.
  func optionalString(_ key: String) throws(TokenizerError) -> String? {
    guard let member = value[key], !member.isNull else { return nil }
    guard let string = member.stringValue else { throw wrong(key, "a string") }
    return string
  }

  /// The one character of a string.
  func character(_ key: String) throws(TokenizerError) -> UInt32 {
    let scalars = try string(key).unicodeScalars
    guard scalars.count == 1, let first = scalars.first else { throw wrong(key, "one character") }
    return first.value
  }

  func bool(_ key: String, default fallback: Bool? = nil) throws(TokenizerError) -> Bool {
    if let fallback, value[key] == nil || value[key]?.isNull == true { return fallback }
    guard let bool = value[key]?.boolValue else { throw wrong(key, "true or false") }
    return bool
  }

  func integer(_ key: String) throws(TokenizerError) -> Int {
    guard let integer = value[key]?.intValue, integer >= 0 else {
      throw wrong(key, "a number that is not negative")
    }
    return integer
  }

  func array(_ key: String) throws(TokenizerError) -> [JSONValue] {
    guard let array = value[key]?.arrayValue else { throw wrong(key, "an array") }
    return array
  }

  /// The components that a Sequence holds under `key`.
  func components(_ key: String) throws(TokenizerError) -> [ComponentConfiguration] {
    var result: [ComponentConfiguration] = []
    for (index, item) in try array(key).enumerated() {
      result.append(try ComponentConfiguration(item, at: "\(path).\(key)[\(index)]"))
    }
    return result
  }

  /// `{"String": …}` or `{"Regex": …}` under `key`, compiled. A bare string stands for itself.
  func pattern(_ key: String) throws(TokenizerError) -> (source: String, expression: RegularExpression) {
    if let regex = value[key]?["Regex"]?.stringValue {
      return (regex, try RegularExpression(regex))
    }
    if let literal = value[key]?["String"]?.stringValue ?? value[key]?.stringValue {
      return (literal, RegularExpression(literal: literal))
    }
    throw wrong(key, "a `String` or a `Regex`")
  }

  func wrong(_ key: String, _ expected: String) -> TokenizerError {
    TokenizerError(
      .malformed,
      "`\(path).\(key)` of tokenizer.json is \(value[key]?.kind ?? "missing"); expected \(expected). "
        + "Correct it, or download the file again.")
  }

  /// The error for a `type` that no catalogue entry has.
  func unknown(_ type: String, known: some Sequence<String>) -> TokenizerError {
    TokenizerError(
      .unsupported,
      "`\(path)` of tokenizer.json has the type `\(type)`, which is not implemented. Known are "
        + known.sorted().joined(separator: ", ") + ".")
  }
}
