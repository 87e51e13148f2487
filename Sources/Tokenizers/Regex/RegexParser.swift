/// Parses the pattern syntax of `tokenizer.json`: Oniguruma's with its Ruby rules, as far as a
/// tokenizer can have a use for it. What is not supported is an error that names it; without case,
/// scalars are compared one by one (`ß` is not `ss`).
struct RegexParser {
  private let pattern: String
  private let scalars: [UInt32]
  private var position = 0
  private var depth = 0

  /// Groups and classes may nest this deep: parsing recurses.
  private static let maximumDepth = 100
  /// Upper bound of `{n}`: counted repetition is unrolled.
  private static let maximumCount = 1000

  /// What `(?imx)` switches.
  private struct Options {
    var ignoresCase = false
    var dotMatchesNewline = false
    var extended = false
  }

  private init(_ pattern: String) {
    self.pattern = pattern
    scalars = pattern.unicodeScalars.map(\.value)
  }

  static func parse(_ pattern: String) throws(TokenizerError) -> RegexNode {
    var parser = RegexParser(pattern)
    let node = try parser.alternation(Options())
    if parser.position < parser.scalars.count { throw parser.malformed("unmatched `)`") }
    return node
  }

  // MARK: Groups and sequences

  /// Alternatives up to `)` or the end.
  private mutating func alternation(_ options: Options) throws(TokenizerError) -> RegexNode {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.maximumDepth else {
      throw unsupported("groups nested more than \(Self.maximumDepth) deep")
    }
    var options = options
    var alternatives: [RegexNode] = []
    var sequence: [RegexNode] = []
    while let next = peek, next != ")" {
      if next == "|" {
        position += 1
        alternatives.append(.sequence(sequence))
        sequence = []
        continue
      }
      if let inline = try inlineOptions(options) {
        // `a(?i)b|c`: the switch holds to the end of the group and takes in its alternatives.
        options = inline
        sequence.append(try alternation(options))
        continue
      }
      guard let atom = try atom(options) else { continue }
      sequence.append(try quantified(atom, options))
    }
    alternatives.append(.sequence(sequence))
    return alternatives.count == 1 ? alternatives[0] : .alternation(alternatives)
  }

  /// Consumes `(?i)`, and only that form; `(?i:…)` is a group.
  private mutating func inlineOptions(_ options: Options) throws(TokenizerError) -> Options? {
    guard peek == "(", peek(1) == "?" else { return nil }
    var end = position + 2
    while end < scalars.count, "imx-".unicodeScalars.contains(where: { $0.value == scalars[end] }) {
      end += 1
    }
    guard end > position + 2, end < scalars.count, Unicode.Scalar(scalars[end]) == ")" else { return nil }
    position += 2
    let result = switched(options)
    position += 1
    return result
  }

  private mutating func switched(_ options: Options) -> Options {
    var result = options
    var on = true
    while let letter = peek, letter != ":", letter != ")" {
      switch letter {
      case "-": on = false
      case "i": result.ignoresCase = on
      case "m": result.dotMatchesNewline = on
      default: result.extended = on
      }
      position += 1
    }
    return result
  }

  private mutating func group(_ options: Options) throws(TokenizerError) -> RegexNode {
    // `position` is behind the parenthesis.
    guard peek == "?" else { return try closed(alternation(options)) }
    position += 1
    guard let kind = peek else { throw malformed("`(?` at the end") }
    switch kind {
    case ":":
      position += 1
      return try closed(alternation(options))
    case "=", "!":
      position += 1
      return .look(try closed(alternation(options)), behind: false, negative: kind == "!")
    case ">":
      position += 1
      return .atomic(try closed(alternation(options)))
    case "#":
      while let next = peek, next != ")" { position += next == "\\" ? 2 : 1 }
      return try closed(.empty)
    case "<" where peek(1) == "=" || peek(1) == "!":
      let negative = peek(1) == "!"
      position += 2
      let body = try closed(alternation(options))
      guard body.fixedLength != nil else {
        throw unsupported("lookbehind whose length varies")
      }
      return .look(body, behind: true, negative: negative)
    case "<", "P", "'":
      // A named group: the name does not matter, only the whole match is used.
      if kind == "P" { position += 1 }
      let closing: Unicode.Scalar = kind == "'" ? "'" : ">"
      position += 1
      while let next = peek, next != closing { position += 1 }
      guard peek == closing else { throw malformed("a group name without end") }
      position += 1
      return try closed(alternation(options))
    case "i", "m", "x", "-":
      let inner = switched(options)
      guard peek == ":" else { throw unsupported("group option `\(peek.map(String.init) ?? "")`") }
      position += 1
      return try closed(alternation(inner))
    default:
      throw unsupported("group `(?\(kind)`")
    }
  }

  private mutating func closed(_ node: RegexNode) throws(TokenizerError) -> RegexNode {
    guard peek == ")" else { throw malformed("a `(` without `)`") }
    position += 1
    return node
  }

  // MARK: Quantifiers

  private mutating func quantified(
    _ atom: RegexNode, _ options: Options
  ) throws(TokenizerError) -> RegexNode {
    var node = atom
    while true {
      if options.extended { skipExtendedSpace() }
      guard let next = peek else { return node }
      var minimum = 0
      var maximum: Int?
      var counted = false
      switch next {
      case "*": position += 1
      case "+":
        position += 1
        minimum = 1
      case "?":
        position += 1
        maximum = 1
      case "{":
        guard let bounds = try counts() else { return node }
        (minimum, maximum) = bounds
        counted = true
      default: return node
      }
      var greed = RegexGreed.greedy
      if peek == "?", !(counted && minimum == maximum) {
        position += 1
        greed = .lazy
      } else if peek == "+", !counted {
        // Behind `{n,m}` a `+` is a quantifier of its own under Ruby's rules.
        position += 1
        greed = .possessive
      }
      if maximum == nil, node.isNullable {
        throw unsupported("unbounded repetition of something that can be empty")
      }
      node = .repeat(node, minimum: minimum, maximum: maximum, greed)
    }
  }

  /// `{n}`, `{n,}`, `{n,m}` or `{,m}`; nil, and nothing consumed, where the brace stands for itself.
  private mutating func counts() throws(TokenizerError) -> (Int, Int?)? {
    let start = position
    position += 1
    let minimum = try number()
    var maximum = minimum
    if peek == "," {
      position += 1
      maximum = try number()
      if minimum == nil, maximum == nil {
        position = start
        return nil
      }
    } else if minimum == nil {
      position = start
      return nil
    }
    guard peek == "}" else {
      position = start
      return nil
    }
    position += 1
    if let minimum, let maximum, minimum > maximum {
      throw malformed("`{\(minimum),\(maximum)}` counts downwards")
    }
    return (minimum ?? 0, maximum)
  }

  private mutating func number() throws(TokenizerError) -> Int? {
    var value: Int?
    while let next = peek, let digit = Self.digit(next, radix: 10) {
      value = (value ?? 0) * 10 + digit
      position += 1
      if let value, value > Self.maximumCount {
        throw unsupported("a repetition count above \(Self.maximumCount)")
      }
    }
    return value
  }

  // MARK: Atoms

  /// One atom, or nil where a comment or white space of extended syntax was skipped.
  private mutating func atom(_ options: Options) throws(TokenizerError) -> RegexNode? {
    guard let next = peek else { return .empty }
    if options.extended {
      let before = position
      skipExtendedSpace()
      if position != before { return nil }
    }
    position += 1
    switch next {
    case "(": return try group(options)
    case "[": return .set(folded(try characterClass(options), options))
    case ".":
      return .set(options.dotMatchesNewline ? .all : ScalarSet(10).inverted)
    case "^": return .assertion(.lineStart)
    case "$": return .assertion(.lineEnd)
    case "\\": return try escape(options)
    case "*", "+", "?": throw malformed("`\(next)` with nothing to repeat")
    default: return .set(folded(ScalarSet(next.value), options))
    }
  }

  private func folded(_ set: ScalarSet, _ options: Options) -> ScalarSet {
    options.ignoresCase ? set.foldingCase : set
  }

  private mutating func escape(_ options: Options) throws(TokenizerError) -> RegexNode {
    guard let next = peek else { throw malformed("`\\` at the end") }
    switch next {
    case "A":
      position += 1
      return .assertion(.textStart)
    case "z":
      position += 1
      return .assertion(.textEnd)
    case "Z":
      position += 1
      return .assertion(.textEndBeforeNewline)
    case "b":
      position += 1
      return .assertion(.wordBoundary)
    case "B":
      position += 1
      return .assertion(.notWordBoundary)
    case "R":
      position += 1
      let newlines = ScalarSet([0x0A...0x0D, 0x85...0x85, 0x2028...0x2029])
      return .atomic(
        .alternation([
          .sequence([.set(ScalarSet(0x0D)), .set(ScalarSet(0x0A))]), .set(newlines),
        ]))
    default: return .set(folded(try escapedSet(inClass: false), options))
    }
  }

  /// What stands behind a backslash, where it denotes one scalar or a class of them.
  private mutating func escapedSet(inClass: Bool) throws(TokenizerError) -> ScalarSet {
    guard let next = peek else { throw malformed("`\\` at the end") }
    position += 1
    switch next {
    case "d": return Self.decimal
    case "D": return Self.decimal.inverted
    case "w": return inClass ? Self.wordInClass : Self.word
    case "W": return (inClass ? Self.wordInClass : Self.word).inverted
    case "s": return Self.space
    case "S": return Self.space.inverted
    case "h": return Self.hexadecimal
    case "H": return Self.hexadecimal.inverted
    case "p", "P": return try property(negated: next == "P")
    case "t": return ScalarSet(9)
    case "n": return ScalarSet(10)
    case "v": return ScalarSet(11)
    case "f": return ScalarSet(12)
    case "r": return ScalarSet(13)
    case "a": return ScalarSet(7)
    case "e": return ScalarSet(27)
    case "b" where inClass: return ScalarSet(8)
    case "0":
      var value: UInt32 = 0
      var digits = 0
      while digits < 2, let next = peek, let digit = Self.digit(next, radix: 8) {
        value = value * 8 + UInt32(digit)
        digits += 1
        position += 1
      }
      return ScalarSet(value)
    case "x", "u":
      let braced = next == "x" && peek == "{"
      if braced { position += 1 }
      let limit = braced ? 8 : next == "x" ? 2 : 4
      var value: UInt32 = 0
      var digits = 0
      while digits < limit, let next = peek, let digit = Self.digit(next, radix: 16) {
        guard value <= 0x10FFFF else { break }
        value = value * 16 + UInt32(digit)
        digits += 1
        position += 1
      }
      if braced {
        guard peek == "}" else { throw malformed("`\\x{` without `}`") }
        position += 1
      }
      guard digits > 0, value <= 0x10FFFF, !(0xD800...0xDFFF).contains(value) else {
        throw malformed("`\\\(next)` without a Unicode scalar")
      }
      return ScalarSet(value)
    default:
      if Self.isLetterOrDigit(next) { throw unsupported("`\\\(next)`") }
      return ScalarSet(next.value)
    }
  }

  /// `{L}`, `{^L}`, `{Han}` behind `\p` or `\P`.
  private mutating func property(negated: Bool) throws(TokenizerError) -> ScalarSet {
    guard peek == "{" else { throw malformed("`\\p` without `{`") }
    position += 1
    var negated = negated
    if peek == "^" {
      negated.toggle()
      position += 1
    }
    var name = ""
    while let next = peek, next != "}" {
      name.unicodeScalars.append(next)
      position += 1
    }
    guard peek == "}" else { throw malformed("`\\p{` without `}`") }
    position += 1
    guard let set = Self.property(named: name) else { throw unsupported("`\\p{\(name)}`") }
    return negated ? set.inverted : set
  }

  // MARK: Character classes

  /// The class behind `[`, up to and including its `]`.
  private mutating func characterClass(_ options: Options) throws(TokenizerError) -> ScalarSet {
    depth += 1
    defer { depth -= 1 }
    guard depth <= Self.maximumDepth else {
      throw unsupported("classes nested more than \(Self.maximumDepth) deep")
    }
    var negated = false
    if peek == "^" {
      negated = true
      position += 1
    }
    var result: ScalarSet?
    var ranges: [ClosedRange<UInt32>] = []
    var first = true
    while true {
      guard let next = peek else { throw malformed("a `[` without `]`") }
      if next == "]", !first { break }
      if next == "&", peek(1) == "&" {
        position += 2
        let part = ScalarSet(ranges)
        result = result.map { $0.intersection(part) } ?? part
        ranges = []
        first = false
        continue
      }
      first = false
      let item: ScalarSet
      if next == "[" {
        position += 1
        item = try peek == ":" ? bracket() : characterClass(options)
      } else if next == "\\" {
        position += 1
        item = try escapedSet(inClass: true)
      } else {
        position += 1
        item = ScalarSet(next.value)
      }
      // `a-z`, unless the hyphen is the last character.
      if peek == "-", let end = peek(1), end != "]", let low = Self.single(item) {
        let hyphen = position
        position += 1
        var high: ScalarSet?
        if end == "\\" {
          position += 1
          high = try escapedSet(inClass: true)
        } else if end != "[" {
          position += 1
          high = ScalarSet(end.value)
        }
        if let high = high.flatMap(Self.single) {
          guard low <= high else { throw malformed("a range that counts downwards") }
          ranges.append(low...high)
          continue
        }
        // `a-\d`: the hyphen stands for itself.
        position = hyphen
        ranges.append(low...low)
        ranges.append(0x2D...0x2D)
        position += 1
        continue
      }
      ranges += item.ranges
    }
    position += 1
    let part = ScalarSet(ranges)
    var set = result.map { $0.intersection(part) } ?? part
    // Folding comes before negation: `(?i)[^a]` excludes `A` too.
    if negated { set = folded(set, options).inverted }
    return set
  }

  /// `:alpha:]` behind `[`.
  private mutating func bracket() throws(TokenizerError) -> ScalarSet {
    position += 1
    var name = ""
    while let next = peek, next != ":" {
      name.unicodeScalars.append(next)
      position += 1
    }
    guard peek == ":", peek(1) == "]" else { throw malformed("`[:` without `:]`") }
    position += 2
    let negated = name.hasPrefix("^")
    let key = negated ? String(name.dropFirst()) : name
    guard let set = Self.property(named: key) else { throw unsupported("`[:\(name):]`") }
    return negated ? set.inverted : set
  }

  // MARK: Named sets

  private static let decimal = category { $0 == "Nd" }
  private static let space = ScalarSet { $0 & ScalarProperties.patternSpace != 0 }
  private static let word = ScalarSet { $0 & ScalarProperties.patternWord != 0 }
  /// Inside a class, Oniguruma's `\w` does not have `²³¹¼½¾`; outside it does.
  private static let wordInClass = word.intersection(
    ScalarSet([0xB2...0xB3, 0xB9...0xB9, 0xBC...0xBE]).inverted)
  private static let hexadecimal = ScalarSet([0x30...0x39, 0x41...0x46, 0x61...0x66])

  private static func category(_ matches: (String) -> Bool) -> ScalarSet {
    let wanted = UnicodeTables.categoryNames.map(matches)
    return ScalarSet { wanted[Int($0 & 0x1F)] }
  }

  private static func property(named name: String) -> ScalarSet? {
    let key = name.lowercased().filter { $0 != " " && $0 != "_" && $0 != "-" }
    switch key {
    case "any": return .all
    case "ascii": return ScalarSet([0...0x7F])
    case "assigned": return category { $0 == "Cn" }.inverted
    case "space", "whitespace": return space
    case "word": return word
    case "digit": return decimal
    case "xdigit": return hexadecimal
    case "cntrl": return category { $0 == "Cc" }
    case "letter": return category { $0.hasPrefix("L") }
    case "mark": return category { $0.hasPrefix("M") }
    case "number": return category { $0.hasPrefix("N") }
    case "punctuation": return category { $0.hasPrefix("P") }
    case "symbol": return category { $0.hasPrefix("S") }
    case "separator": return category { $0.hasPrefix("Z") }
    case "other": return category { $0.hasPrefix("C") }
    case "lc": return category { ["Lu", "Ll", "Lt"].contains($0) }
    default: break
    }
    if let category = UnicodeTables.categoryNames.first(where: { $0.lowercased() == key }) {
      return Self.category { $0 == category }
    }
    if ["l", "m", "n", "p", "s", "z", "c"].contains(key) {
      return Self.category { $0.lowercased().hasPrefix(key) }
    }
    if let script = UnicodeTables.scriptNames.firstIndex(where: { $0.lowercased() == key }) {
      return ScalarSet(script: script + 1)
    }
    return nil
  }

  // MARK: Scalars

  private var peek: Unicode.Scalar? { peek(0) }

  private func peek(_ offset: Int) -> Unicode.Scalar? {
    position + offset < scalars.count ? Unicode.Scalar(scalars[position + offset]) : nil
  }

  private mutating func skipExtendedSpace() {
    while let next = peek {
      if next == "#" {
        while let skipped = peek, skipped != "\n" {
          _ = skipped
          position += 1
        }
      } else if [" ", "\t", "\n", "\r", "\u{B}", "\u{C}"].contains(next) {
        position += 1
      } else {
        return
      }
    }
  }

  private static func single(_ set: ScalarSet) -> UInt32? {
    guard set.ranges.count == 1, set.ranges[0].count == 1 else { return nil }
    return set.ranges[0].lowerBound
  }

  private static func digit(_ scalar: Unicode.Scalar, radix: Int) -> Int? {
    guard scalar.isASCII else { return nil }
    return Character(scalar).hexDigitValue.flatMap { $0 < radix ? $0 : nil }
  }

  private static func isLetterOrDigit(_ scalar: Unicode.Scalar) -> Bool {
    ("a"..."z").contains(scalar) || ("A"..."Z").contains(scalar) || ("0"..."9").contains(scalar)
  }

  private func malformed(_ what: String) -> TokenizerError {
    TokenizerError(
      .malformed,
      "The pattern \(pattern.debugDescription) is not a regular expression: \(what) at character "
        + "\(position). Correct the pattern in tokenizer.json.")
  }

  private func unsupported(_ what: String) -> TokenizerError {
    TokenizerError(
      .unsupported,
      "The pattern \(pattern.debugDescription) needs \(what), at character \(position), which this "
        + "tokenizer does not implement. Rewrite the pattern in tokenizer.json without it.")
  }
}
