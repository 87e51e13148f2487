/// A regular expression of Python's `re`, in which PEFT's users write, as ICU writes it, which matches here.
///
/// The two agree on most of the syntax. What ICU writes otherwise is translated: named groups and references to them, sets
/// (ICU reads operators in them), `\Z`, `{,n}`, and characters that only ICU treats as syntax. What it cannot express is
/// refused with the reason.
struct PythonPattern {
  /// The pattern for ICU.
  private(set) var translated = ""

  private let pattern: String
  private let scalars: [Unicode.Scalar]
  private var position = 0
  private var groupCount = 0
  private var groups: [String: Int] = [:]
  private var isVerbose = false

  /// - Throws: ``AdapterError`` for what Python refuses, and for what cannot be expressed.
  init(_ pattern: String) throws {
    self.pattern = pattern
    scalars = Array(pattern.unicodeScalars)
    while position < scalars.count { try translateNext() }
  }

  private func refused(_ reason: String) -> AdapterError {
    AdapterError("`\(pattern)` is not a regular expression that can be used: \(reason).")
  }

  // MARK: Reading

  private var next: Unicode.Scalar? { position < scalars.count ? scalars[position] : nil }

  private func startsWith(_ text: String) -> Bool { scalars[position...].starts(with: text.unicodeScalars) }

  private mutating func consume(_ text: String) -> Bool {
    guard startsWith(text) else { return false }
    position += text.unicodeScalars.count
    return true
  }

  /// What stands before `end`, which is passed over.
  private mutating func text(upTo end: Unicode.Scalar, in what: String) throws -> String {
    guard let stop = scalars[position...].firstIndex(of: end) else {
      throw refused("\(what) has no `\(end)`")
    }
    defer { position = stop + 1 }
    return scalars[position..<stop].reduce(into: "") { $0.unicodeScalars.append($1) }
  }

  private mutating func emit(_ scalar: Unicode.Scalar) { translated.unicodeScalars.append(scalar) }

  /// A character that stands for itself, whatever ICU makes of it.
  private func literal(_ scalar: Unicode.Scalar) -> String {
    scalar.properties.isAlphabetic || ("0"..."9").contains(scalar) || scalar == "_"
      ? String(scalar) : "\\x{\(String(scalar.value, radix: 16))}"
  }

  // MARK: Translating

  private mutating func translateNext() throws {
    guard let scalar = next else { return }
    switch scalar {
    case "\\": translated += try escape(inSet: false)
    case "[": try translateSet()
    case "(": try translateGroup()
    case "{":
      // Anything else than a counted repetition is a brace.
      if let (counts, length) = repetition() {
        translated += counts
        position += length
      } else {
        translated += #"\{"#
        position += 1
      }
    case "}", "]":
      translated += "\\\(scalar)"
      position += 1
    case "#" where isVerbose:
      while position < scalars.count, scalars[position] != "\n" { position += 1 }
    case _ where isVerbose && scalar.properties.isWhitespace: position += 1
    default:
      emit(scalar)
      position += 1
    }
  }

  /// `{m}`, `{m,}`, `{,n}` or `{m,n}` at this place, for ICU, with its length here.
  private func repetition() -> (text: String, length: Int)? {
    guard let end = scalars[position...].firstIndex(of: "}") else { return nil }
    let inner = scalars[(position + 1)..<end].reduce(into: "") { $0.unicodeScalars.append($1) }
    let bounds = inner.split(separator: ",", omittingEmptySubsequences: false)
    guard bounds.count <= 2, bounds.contains(where: { !$0.isEmpty }) || bounds.count == 2,
      bounds.allSatisfy({ $0.utf8.allSatisfy { (48...57).contains($0) } })
    else { return nil }
    if bounds.count == 1 { return ("{\(bounds[0])}", end + 1 - position) }
    return ("{\(bounds[0].isEmpty ? "0" : bounds[0]),\(bounds[1])}", end + 1 - position)
  }

  private mutating func translateGroup() throws {
    let start = position
    position += 1
    guard consume("?") else {
      groupCount += 1
      translated += "("
      return
    }
    if consume("P<") {
      let name = try text(upTo: ">", in: "a named group")
      try check(name)
      guard groups[name] == nil else { throw refused("the group `\(name)` is named twice") }
      groupCount += 1
      groups[name] = groupCount
      // By number: ICU's names have no underscore.
      translated += "("
    } else if consume("P=") {
      let name = try text(upTo: ")", in: "a reference to a group")
      guard let number = groups[name] else {
        throw refused("it refers to the group `\(name)` before there is one")
      }
      translated += "(?:\\\(number))"
    } else if consume("P") {
      throw refused("`(?P` is followed by neither `<name>` nor `=name`")
    } else if consume("#") {
      _ = try text(upTo: ")", in: "a comment")
    } else if startsWith("(") {
      throw refused("conditional groups `(?(…)yes|no)` have no counterpart here; write the alternatives out")
    } else if let known = [":", "=", "!", "<=", "<!", ">"].first(where: { startsWith($0) }) {
      _ = consume(known)
      translated += "(?\(known)"
    } else {
      try translateFlags(at: start)
    }
  }

  private func check(_ name: String) throws {
    guard let first = name.unicodeScalars.first, first.properties.isXIDStart || first == "_",
      name.unicodeScalars.allSatisfy(\.properties.isXIDContinue)
    else { throw refused("`\(name)` cannot be the name of a group") }
  }

  /// `(?flags)` for the whole pattern, or `(?flags:…)`.
  private mutating func translateFlags(at start: Int) throws {
    var flags = ""
    var removes = false
    while let scalar = next, scalar != ":", scalar != ")" {
      position += 1
      switch scalar {
      case "i", "m", "s": emit(scalar, to: &flags)
      case "x":
        guard start == 0, !removes else {
          throw refused("the flag x is only possible at its start, for all of it")
        }
        isVerbose = true
      // What they choose differs only beyond ASCII, which names of modules are not.
      case "a", "u": break
      case "-" where !removes:
        removes = true
        emit(scalar, to: &flags)
      default:
        throw refused("`(?` is followed by `\(scalar)`, which is no flag of Python's that text can have")
      }
    }
    guard let end = next else { throw refused("the group that begins with `(?` has no end") }
    position += 1
    if flags.hasSuffix("-") { flags.removeLast() }
    if end == ":" {
      translated += "(?\(flags):"
    } else {
      guard start == 0, !removes else { throw refused("flags for all of it must stand at its start") }
      if !flags.isEmpty { translated += "(?\(flags))" }
    }
  }

  private func emit(_ scalar: Unicode.Scalar, to text: inout String) { text.unicodeScalars.append(scalar) }

  // MARK: Sets

  /// `[…]`: ICU reads `[`, `&&`, `--` and others within as operators, so every character is written as itself.
  private mutating func translateSet() throws {
    position += 1
    translated += consume("^") ? "[^" : "["
    var isFirst = true
    while true {
      guard let scalar = next else { throw refused("a set has no `]`") }
      if scalar == "]", !isFirst { break }
      isFirst = false
      let low = try setMember()
      guard startsWith("-"), position + 1 < scalars.count, scalars[position + 1] != "]" else {
        translated += low
        continue
      }
      position += 1
      let high = try setMember()
      guard !Self.isClass(low), !Self.isClass(high) else {
        throw refused("a set has a range from or to a class of characters")
      }
      translated += "\(low)-\(high)"
    }
    position += 1
    translated += "]"
  }

  private mutating func setMember() throws -> String {
    guard let scalar = next else { throw refused("a set has no `]`") }
    if scalar == "\\" { return try escape(inSet: true) }
    position += 1
    return literal(scalar)
  }

  private static func isClass(_ member: String) -> Bool {
    [#"\d"#, #"\D"#, #"\s"#, #"\S"#, #"\w"#, #"\W"#].contains(member)
  }

  // MARK: Escapes

  private mutating func escape(inSet: Bool) throws -> String {
    position += 1
    guard let scalar = next else { throw refused("it ends in a backslash") }
    position += 1
    switch scalar {
    case "d", "D", "s", "S", "w", "W": return "\\\(scalar)"
    case "A" where !inSet, "B" where !inSet, "b" where !inSet: return "\\\(scalar)"
    case "Z" where !inSet, "z" where !inSet: return #"\z"#
    case "b": return literal("\u{8}")
    case "a": return literal("\u{7}")
    case "f": return literal("\u{C}")
    case "n": return literal("\n")
    case "r": return literal("\r")
    case "t": return literal("\t")
    case "v": return literal("\u{B}")
    case "x": return try code(digits: 2)
    case "u": return try code(digits: 4)
    case "U": return try code(digits: 8)
    case "N": throw refused("characters by name (`\\N{…}`) are not possible; write the character")
    case "0"..."9": return try number(from: scalar, inSet: inSet)
    case _ where scalar.isASCII && scalar.properties.isAlphabetic:
      throw refused("Python has no escape `\\\(scalar)`")
    default: return literal(scalar)
    }
  }

  /// The character whose number the next digits are, in base 16.
  private mutating func code(digits count: Int) throws -> String {
    let end = min(position + count, scalars.count)
    let digits = scalars[position..<end].reduce(into: "") { $0.unicodeScalars.append($1) }
    guard digits.count == count, let value = UInt32(digits, radix: 16), let scalar = Unicode.Scalar(value)
    else {
      throw refused("an escape has not the \(count) hexadecimal digits of a character")
    }
    position = end
    return literal(scalar)
  }

  /// A reference to a group, or a character by its number in base 8.
  private mutating func number(from first: Unicode.Scalar, inSet: Bool) throws -> String {
    var digits = String(first)
    while digits.count < 3, let digit = next, ("0"..."9").contains(digit) {
      digits.unicodeScalars.append(digit)
      position += 1
    }
    let isOctal = first == "0" || inSet || digits.count == 3
    if isOctal, let value = UInt32(digits, radix: 8), value < 256, let scalar = Unicode.Scalar(value) {
      return literal(scalar)
    }
    // Of three digits that are no character, Python takes two.
    if digits.count == 3 {
      digits.removeLast()
      position -= 1
    }
    guard !inSet, let group = Int(digits), group > 0, group <= groupCount else {
      throw refused("`\\\(digits)` refers to a group that there is not")
    }
    return "(?:\\\(group))"
  }
}
