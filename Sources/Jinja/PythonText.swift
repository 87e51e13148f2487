/// What Python calls a space, a word, a digit; and its `repr` and case mappings.
extension Unicode.Scalar {
  /// `str.isspace`.
  var isPythonSpace: Bool {
    switch value {
    case 0x09...0x0D, 0x1C...0x20, 0x85, 0xA0, 0x1680, 0x2000...0x200A, 0x2028, 0x2029, 0x202F,
      0x205F, 0x3000:
      true
    default: false
    }
  }

  /// `[0-9]`: the digits of a number in a template's source.
  var isPythonDigit: Bool { ("0"..."9").contains(self) }

  /// `\w` of a regular expression.
  var isPythonWord: Bool {
    if value < 0x80 {
      return ("a"..."z").contains(self) || ("A"..."Z").contains(self) || isPythonDigit || self == "_"
    }
    return isAlphanumeric
  }

  /// `str.isalnum`.
  var isAlphanumeric: Bool { isLetter || properties.numericType != nil }

  /// `str.isalpha`.
  var isLetter: Bool {
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: true
    default: false
    }
  }

  var isCased: Bool { properties.isCased }

  /// `str.isprintable`.
  var isPythonPrintable: Bool {
    if value < 0x7F { return value >= 0x20 }
    switch properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
      .paragraphSeparator, .spaceSeparator:
      return false
    default: return true
    }
  }

  func digit(radix: Int) -> Int? {
    let digit: UInt32
    switch self {
    case "0"..."9": digit = value - 48
    case "a"..."z": digit = value - 87
    case "A"..."Z": digit = value - 55
    default: return nil
    }
    return digit < radix ? Int(digit) : nil
  }
}

extension String {
  init(_ scalars: some Sequence<Unicode.Scalar>) {
    var view = String.UnicodeScalarView()
    view.append(contentsOf: scalars)
    self.init(view)
  }

  /// Equal scalar by scalar, as Python compares; Swift's `==` would equate normalizations.
  func isSame(as other: String) -> Bool {
    utf8.count == other.utf8.count && utf8.elementsEqual(other.utf8)
  }

  /// `repr(str)`.
  var pythonRepresentation: String {
    let quote: Unicode.Scalar = unicodeScalars.contains("'") && !unicodeScalars.contains("\"") ? "\"" : "'"
    var result = String.UnicodeScalarView()
    result.append(quote)
    for scalar in unicodeScalars {
      switch scalar {
      case quote, "\\": result.append(contentsOf: ["\\", scalar])
      case "\n": result.append(contentsOf: "\\n".unicodeScalars)
      case "\r": result.append(contentsOf: "\\r".unicodeScalars)
      case "\t": result.append(contentsOf: "\\t".unicodeScalars)
      case _ where scalar.isPythonPrintable: result.append(scalar)
      default:
        let digits = String(scalar.value, radix: 16)
        let (letter, width) = scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x10000 ? ("u", 4) : ("U", 8)
        let padding = String(repeating: "0", count: width - digits.utf8.count)
        result.append(contentsOf: "\\\(letter)\(padding)\(digits)".unicodeScalars)
      }
    }
    result.append(quote)
    return String(result)
  }

  /// `str.lower`, with the final sigma.
  var pythonLowercased: String {
    guard unicodeScalars.contains("Σ") else { return lowercased() }
    let scalars = Array(unicodeScalars)
    return scalars.indices.reduce(into: "") { $0 += Self.lowercase(scalars, at: $1) }
  }

  /// A scalar in lower case. A sigma is final when a cased letter comes before it and none after it;
  /// ignorable marks do not count.
  private static func lowercase(_ scalars: [Unicode.Scalar], at index: Int) -> String {
    guard scalars[index] == "Σ" else { return scalars[index].properties.lowercaseMapping }
    let before = scalars[..<index].last { !$0.properties.isCaseIgnorable }
    let after = scalars[(index + 1)...].first { !$0.properties.isCaseIgnorable }
    return (before?.isCased ?? false) && !(after?.isCased ?? false) ? "ς" : "σ"
  }

  /// `str.capitalize`.
  var pythonCapitalized: String {
    guard let first = unicodeScalars.first else { return "" }
    return first.properties.titlecaseMapping
      + String(unicodeScalars.dropFirst()).pythonLowercased
  }

  /// `str.title`: the first cased letter of each run of cased letters in title case.
  var pythonTitle: String {
    var result = ""
    var inWord = false
    let scalars = Array(unicodeScalars)
    for (index, scalar) in scalars.enumerated() {
      result += inWord ? Self.lowercase(scalars, at: index) : scalar.properties.titlecaseMapping
      inWord = scalar.isCased
    }
    return result
  }

  /// `str.swapcase`.
  var pythonSwapcased: String {
    unicodeScalars.reduce(into: "") {
      $0 += $1.properties.isUppercase ? $1.properties.lowercaseMapping : $1.properties.uppercaseMapping
    }
  }

  /// `str.splitlines`.
  func pythonLines(keepEnds: Bool = false) -> [String] {
    var lines: [String] = []
    var line = String.UnicodeScalarView()
    var iterator = Array(unicodeScalars)[...]
    while let scalar = iterator.popFirst() {
      switch scalar.value {
      case 0x0A...0x0D, 0x1C...0x1E, 0x85, 0x2028, 0x2029:
        if keepEnds { line.append(scalar) }
        if scalar == "\r", iterator.first == "\n" {
          iterator.removeFirst()
          if keepEnds { line.append("\n") }
        }
        lines.append(String(line))
        line = .init()
      default: line.append(scalar)
      }
    }
    if !line.isEmpty { lines.append(String(line)) }
    return lines
  }

  /// `str.strip`, `lstrip` and `rstrip`; `nil` strips white space.
  func pythonStripped(_ characters: String?, left: Bool = true, right: Bool = true) -> String {
    let set = characters.map { Set($0.unicodeScalars) }
    func strips(_ scalar: Unicode.Scalar) -> Bool { set?.contains(scalar) ?? scalar.isPythonSpace }
    var rest = unicodeScalars[...]
    if left { while let first = rest.first, strips(first) { rest.removeFirst() } }
    if right { while let last = rest.last, strips(last) { rest.removeLast() } }
    return String(Substring(rest))
  }
}
