/// ROUGE: overlap of n-grams (ROUGE-1, ROUGE-2) or the longest common subsequence (ROUGE-L), as F1.
///
/// Each pair of texts is scored, the mean reported. Words are those of Google's `rouge-score` without stemming:
/// runs of `a-z0-9` after lower-casing. That leaves nothing of Chinese, for which every character is a
/// unit, and runs of Latin letters and digits are words still.
/// Source: Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", 2004.
public struct ROUGE: TextMetric {
  public enum Variant: Sendable, Hashable {
    case n(Int)
    case longestCommonSubsequence
  }

  public enum Units: Sendable, Hashable {
    case words, characters
  }

  public struct Score: Sendable, Hashable {
    public var precision: Double
    public var recall: Double

    public var f1: Double {
      precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0
    }
  }

  public let variant: Variant
  public let units: Units

  public init(_ variant: Variant, units: Units = .words) {
    if case .n(let length) = variant { precondition(length > 0) }
    self.variant = variant
    self.units = units
  }

  public var name: String {
    switch variant {
    case .n(let length): "rouge\(length)"
    case .longestCommonSubsequence: "rougeL"
    }
  }

  public func score(predictions: [String], references: [String]) -> Double {
    precondition(predictions.count == references.count && !references.isEmpty)
    let sum = zip(predictions, references).reduce(0) { $0 + score(prediction: $1.0, reference: $1.1).f1 }
    return 100 * sum / Double(references.count)
  }

  /// Precision and recall of one text, from 0 to 1.
  public func score(prediction: String, reference: String) -> Score {
    let (predicted, wanted) = (tokens(prediction), tokens(reference))
    switch variant {
    case .longestCommonSubsequence:
      guard !predicted.isEmpty, !wanted.isEmpty else { return Score(precision: 0, recall: 0) }
      let common = Double(Self.longestCommonSubsequence(wanted, predicted))
      return Score(
        precision: common / Double(predicted.count), recall: common / Double(wanted.count))
    case .n(let length):
      let (predicted, wanted) = (NGrams.counts(predicted, length), NGrams.counts(wanted, length))
      let common = wanted.reduce(0) { $0 + min($1.value, predicted[$1.key] ?? 0) }
      // rouge-score divides by at least 1.
      let (predictions, references) = (
        max(predicted.values.reduce(0, +), 1), max(wanted.values.reduce(0, +), 1)
      )
      return Score(
        precision: Double(common) / Double(predictions), recall: Double(common) / Double(references))
    }
  }

  func tokens(_ text: String) -> [String] {
    var tokens: [String] = []
    var word = ""
    for scalar in text.lowercased().unicodeScalars {
      switch scalar {
      case "a"..."z", "0"..."9":
        word.unicodeScalars.append(scalar)
      default:
        if !word.isEmpty { tokens.append(word) }
        word = ""
        if units == .characters, !scalar.isASCII,
          scalar.properties.isAlphabetic || scalar.properties.numericType != nil
        {
          tokens.append(String(scalar))
        }
      }
    }
    if !word.isEmpty { tokens.append(word) }
    return tokens
  }

  /// Its length, with one row of the usual table at a time.
  private static func longestCommonSubsequence(_ left: [String], _ right: [String]) -> Int {
    var row = [Int](repeating: 0, count: right.count + 1)
    for token in left {
      var diagonal = 0
      for column in right.indices {
        let above = row[column + 1]
        row[column + 1] = token == right[column] ? diagonal + 1 : max(above, row[column])
        diagonal = above
      }
    }
    return row[right.count]
  }
}
