import Foundation

/// Corpus BLEU-4 as sacrebleu computes it: geometric mean of the n-gram precisions up to 4 over the whole
/// corpus, times the brevity penalty, with exponential smoothing.
///
/// `BLEU = min(1, e^(1 − r/c)) · (p₁ p₂ p₃ p₄)^¼`, c and r the lengths of predictions and references. A
/// precision without a match counts as 1/(2ᵏ · n-grams), k the number of such precisions so far.
/// Sources: Papineni et al., "BLEU", 2002; Post, "A Call for Clarity in Reporting BLEU Scores", 2018.
public struct BLEU: TextMetric {
  public let tokenizer: BLEUTokenizer

  public init(_ tokenizer: BLEUTokenizer = .mteval13a) { self.tokenizer = tokenizer }

  public var name: String { "bleu" }

  private static let order = 4

  public func score(predictions: [String], references: [String]) -> Double {
    precondition(predictions.count == references.count && !references.isEmpty)
    var matches = [Int](repeating: 0, count: Self.order)
    var totals = matches
    var (predictedLength, referenceLength) = (0, 0)
    for (prediction, reference) in zip(predictions, references) {
      let (predicted, wanted) = (tokenizer.tokens(prediction), tokenizer.tokens(reference))
      predictedLength += predicted.count
      referenceLength += wanted.count
      for length in 1...Self.order {
        let (predicted, wanted) = (NGrams.counts(predicted, length), NGrams.counts(wanted, length))
        for (gram, count) in predicted {
          totals[length - 1] += count
          matches[length - 1] += min(count, wanted[gram] ?? 0)
        }
      }
    }
    guard matches.contains(where: { $0 > 0 }), !totals.contains(0) else { return 0 }
    var smoothing = 1.0
    var logarithms = 0.0
    for (match, total) in zip(matches, totals) {
      if match == 0 { smoothing *= 2 }
      let precision = match == 0 ? 1 / (smoothing * Double(total)) : Double(match) / Double(total)
      logarithms += log(precision)
    }
    let brevity =
      predictedLength < referenceLength
      ? exp(1 - Double(referenceLength) / Double(predictedLength)) : 1
    return 100 * brevity * exp(logarithms / Double(Self.order))
  }
}
