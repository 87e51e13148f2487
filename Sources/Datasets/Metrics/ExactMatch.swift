/// Exact match: the share of predictions that are the reference, white space at the ends aside.
///
/// Normalized as SQuAD does it: lower case, no punctuation, no English articles, white space collapsed; Chinese
/// and full-width punctuation goes too.
/// Source: Rajpurkar et al., "SQuAD", 2016.
public struct ExactMatch: TextMetric {
  public let isNormalized: Bool

  public init(isNormalized: Bool = false) { self.isNormalized = isNormalized }

  public var name: String { isNormalized ? "exact_match_normalized" : "exact_match" }

  public func score(predictions: [String], references: [String]) -> Double {
    precondition(predictions.count == references.count && !references.isEmpty)
    let hits = zip(predictions, references).count { matches($0, $1) }
    return 100 * Double(hits) / Double(references.count)
  }

  public func matches(_ prediction: String, _ reference: String) -> Bool {
    // Scalar by scalar: Swift's `==` takes canonically equivalent strings for equal, Python's does not.
    let (left, right) =
      isNormalized
      ? (Self.normalized(prediction), Self.normalized(reference))
      : (Self.trimmed(prediction), Self.trimmed(reference))
    return left.unicodeScalars.elementsEqual(right.unicodeScalars)
  }

  static func trimmed(_ text: String) -> String {
    let scalars = text.unicodeScalars
    guard let first = scalars.firstIndex(where: { !$0.properties.isWhitespace }),
      let last = scalars.lastIndex(where: { !$0.properties.isWhitespace })
    else { return "" }
    return String(scalars[first...last])
  }

  static func normalized(_ text: String) -> String {
    var kept = String.UnicodeScalarView()
    for scalar in text.lowercased().unicodeScalars where !isPunctuation(scalar) { kept.append(scalar) }
    return String(kept).split(whereSeparator: \.isWhitespace)
      .filter { !["a", "an", "the"].contains($0) }
      .joined(separator: " ")
  }

  private static func isPunctuation(_ scalar: Unicode.Scalar) -> Bool {
    // All of Python's string.punctuation: Unicode calls some of it symbols.
    if scalar.isASCII {
      return (0x21...0x2F).contains(scalar.value) || (0x3A...0x40).contains(scalar.value)
        || (0x5B...0x60).contains(scalar.value) || (0x7B...0x7E).contains(scalar.value)
    }
    switch scalar.properties.generalCategory {
    case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
      .initialPunctuation, .finalPunctuation, .otherPunctuation:
      return true
    default: return false
    }
  }
}
