/// Shows an example token by token and which tokens carry loss, for `graft inspect --supervision`.
public struct SupervisionPrinter: Sendable {
  /// Colour the supervised pieces (ANSI); otherwise a column says it.
  public var isColoured: Bool
  /// The text of one token, however much of a character it is.
  private let piece: @Sendable (Int32) -> String

  public init(isColoured: Bool, piece: @escaping @Sendable (Int32) -> String) {
    self.isColoured = isColoured
    self.piece = piece
  }

  /// A line for each token: its place, id, `*` when it carries loss, and its text in quotes.
  ///
  /// The first token never carries loss: nothing comes before it.
  public func lines(_ example: Example) -> [String] {
    let places = String(max(example.count - 1, 0)).count
    let ids = example.tokens.map { String($0).count }.max() ?? 0
    return example.tokens.indices.map { index in
      let isSupervised = index > 0 && example.labels[index] != ignoreIndex
      let text = Self.quoted(piece(example.tokens[index]))
      let line =
        "\(Self.padded(index, to: places))  \(Self.padded(Int(example.tokens[index]), to: ids))"
        + "  \(isSupervised ? "*" : " ")  \(text)"
      return isColoured && isSupervised ? "\u{1B}[32m\(line)\u{1B}[0m" : line
    }
  }

  /// One line that says how much is supervised.
  public func summary(_ example: Example) -> String {
    "\(example.supervisedTokens) of \(example.count) tokens carry loss (*)"
  }

  private static func padded(_ number: Int, to width: Int) -> String {
    let text = String(number)
    return String(repeating: " ", count: max(0, width - text.count)) + text
  }

  /// Control characters are written out: one in the data must not reach the terminal.
  private static func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\"", "\\": result += "\\\(scalar)"
      default:
        if scalar.properties.generalCategory == .control {
          result += "\\u{\(String(scalar.value, radix: 16))}"
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }
}
