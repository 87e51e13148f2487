/// How BLEU cuts text into tokens, by the names of sacrebleu.
public enum BLEUTokenizer: String, Sendable, Codable, CaseIterable {
  /// WMT's mteval-v13a: punctuation apart from words, but not inside numbers.
  case mteval13a = "13a"
  /// Every Chinese character is a token; the rest as in 13a.
  case chinese = "zh"

  package func tokens(_ text: String) -> [String] {
    switch self {
    case .mteval13a:
      var line = Self.replacing(Self.replacing(text, "<skipped>", with: ""), "-\n", with: "")
      line = Self.replacing(line, "\n", with: " ")
      for (entity, character) in [("&quot;", "\""), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")] {
        line = Self.replacing(line, entity, with: character)
      }
      // sacrebleu trims the end of each line first.
      return Self.separated(" \(Self.trimmingEnd(line)) ")
    case .chinese:
      var line = ""
      for scalar in ExactMatch.trimmed(text).unicodeScalars {
        if Self.isChinese(scalar) {
          line += " \(scalar) "
        } else {
          line.unicodeScalars.append(scalar)
        }
      }
      return Self.separated(line)
    }
  }

  /// mteval's rules, in its order, each applied to the whole line from left to right.
  private static func separated(_ line: String) -> [String] {
    var scalars = Array(line.unicodeScalars)
    // All ASCII punctuation but . , - ' is a token of its own.
    scalars = scalars.flatMap { isSeparate($0) ? [" ", $0, " "] : [$0] }
    // A point or comma is one unless a digit is before it …
    scalars = replacingPairs(scalars) { !isDigit($0) && isPointOrComma($1) ? [$0, " ", $1, " "] : nil }
    // … and unless a digit follows; a dash is one after a digit.
    scalars = replacingPairs(scalars) { isPointOrComma($0) && !isDigit($1) ? [" ", $0, " ", $1] : nil }
    scalars = replacingPairs(scalars) { isDigit($0) && $1 == "-" ? [$0, " ", $1, " "] : nil }
    return scalars.split(whereSeparator: isPythonSpace).map {
      var token = String.UnicodeScalarView()
      token.append(contentsOf: $0)
      return String(token)
    }
  }

  /// Like a regular expression of two characters: a pair that matched is not looked at again.
  private static func replacingPairs(
    _ scalars: [Unicode.Scalar], _ rule: (Unicode.Scalar, Unicode.Scalar) -> [Unicode.Scalar]?
  ) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    var position = 0
    while position < scalars.count {
      if position + 1 < scalars.count, let replaced = rule(scalars[position], scalars[position + 1]) {
        result += replaced
        position += 2
      } else {
        result.append(scalars[position])
        position += 1
      }
    }
    return result
  }

  private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { ("0"..."9").contains(scalar) }

  private static func isPointOrComma(_ scalar: Unicode.Scalar) -> Bool { scalar == "." || scalar == "," }

  private static func isSeparate(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "{"..."~", "["..."`", " "..."&", "("..."+", ":"..."@", "/": true
    default: false
    }
  }

  /// What Python's `str.split` splits at: white space, and four control characters that Unicode does not
  /// call so.
  private static func isPythonSpace(_ scalar: Unicode.Scalar) -> Bool {
    scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
  }

  private static func trimmingEnd(_ text: String) -> String {
    let scalars = text.unicodeScalars
    guard let last = scalars.lastIndex(where: { !isPythonSpace($0) }) else { return "" }
    return String(scalars[...last])
  }

  /// Scalar by scalar: Swift's characters would hide a line feed behind a carriage return.
  private static func replacing(_ text: String, _ old: String, with new: String) -> String {
    let (scalars, pattern) = (Array(text.unicodeScalars), Array(old.unicodeScalars))
    var result = String.UnicodeScalarView()
    var position = 0
    while position < scalars.count {
      if scalars[position...].starts(with: pattern) {
        result.append(contentsOf: new.unicodeScalars)
        position += pattern.count
      } else {
        result.append(scalars[position])
        position += 1
      }
    }
    return String(result)
  }

  private static func isChinese(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x3400...0x4DB5, 0x4E00...0x9FBB, 0xF900...0xFA2D, 0xFA30...0xFA6A, 0xFA70...0xFAD9,
      0xFF00...0xFFEF, 0x2E80...0x2EFF, 0x3000...0x303F, 0x31C0...0x31EF, 0x2F00...0x2FDF, 0x2FF0...0x2FFF,
      0x3100...0x312F, 0x31A0...0x31BF, 0xFE10...0xFE1F, 0xFE30...0xFE4F, 0x2600...0x26FF, 0x2700...0x27BF,
      0x3200...0x33FF:
      true
    // sacrebleu means the ideographs from U+20000 on but writes '\u20000', which is U+2000 and a "0"; so
    // these are what its scores are made of.
    case 0x2001...0x2A6D: true
    default: false
    }
  }
}
