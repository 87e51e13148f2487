/// A score of generated texts against the texts that were wanted.
public protocol TextMetric: Sendable {
  /// The name under which it is reported.
  var name: String { get }
  /// The score of all texts together, from 0 to 100.
  ///
  /// - Precondition: as many predictions as references, at least one.
  func score(predictions: [String], references: [String]) -> Double
}

/// The metrics there are.
public enum TextMetrics {
  /// - Parameter isChinese: count characters rather than words (BLEU: sacrebleu's `zh`).
  public static func all(isChinese: Bool) -> [any TextMetric] {
    let units: ROUGE.Units = isChinese ? .characters : .words
    return [
      ExactMatch(), ExactMatch(isNormalized: true), ROUGE(.n(1), units: units), ROUGE(.n(2), units: units),
      ROUGE(.longestCommonSubsequence, units: units), BLEU(isChinese ? .chinese : .mteval13a),
    ]
  }

  /// Whether more of the letters in these texts are Chinese characters than not.
  public static func areChinese(_ texts: [String]) -> Bool {
    var (han, other) = (0, 0)
    for scalar in texts.lazy.flatMap(\.unicodeScalars) where scalar.properties.isAlphabetic {
      if scalar.isHan { han += 1 } else { other += 1 }
    }
    // A Chinese character says as much as a word of several letters.
    return han * 3 > other && han > 0
  }
}

extension Unicode.Scalar {
  /// CJK unified and compatibility ideographs.
  var isHan: Bool {
    switch value {
    case 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xF900...0xFAFF, 0x20000...0x3FFFD: true
    default: false
    }
  }
}
