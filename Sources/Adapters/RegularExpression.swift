import Foundation

/// A regular expression, written as for Python's `re`.
struct RegularExpression {
  private let expression: NSRegularExpression
  /// The same between the ends of the text: an alternation takes its first match, and only asking for the end as well
  /// makes it look further.
  private let whole: NSRegularExpression

  /// - Throws: ``AdapterError`` when the pattern is not valid.
  init(_ pattern: String) throws {
    let translated = try PythonPattern(pattern).translated
    do {
      expression = try NSRegularExpression(pattern: translated.isEmpty ? "(?:)" : translated)
      whole = try NSRegularExpression(pattern: #"\A(?:\#(translated))\z"#)
    } catch {
      throw AdapterError("`\(pattern)` is not a valid regular expression; check its brackets and escapes.")
    }
  }

  func matchesWhole(_ text: String) -> Bool {
    whole.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)) != nil
  }

  func firstGroup(in text: String) -> String? {
    guard let match = expression.firstMatch(in: text, range: NSRange(text.startIndex..., in: text)),
      let range = Range(match.range(at: 1), in: text)
    else { return nil }
    return String(text[range])
  }
}
