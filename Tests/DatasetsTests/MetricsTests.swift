import Datasets
import JSON
import Testing

@Suite struct MetricsTests {
  @Test("BLEU equals sacrebleu", arguments: [("english", BLEUTokenizer.mteval13a), ("chinese", .chinese)])
  func bleu(language: String, tokenizer: BLEUTokenizer) throws {
    let (fixture, predictions, references) = try texts(language)
    for (prediction, tokens) in zip(predictions, try #require(fixture["tokens"]?.arrayValue)) {
      #expect(tokenizer.tokens(prediction).joined(separator: " ") == tokens.stringValue)
    }
    let metric = BLEU(tokenizer)
    for (name, range) in [
      ("bleu", 0..<predictions.count), ("bleu_without_first", 1..<predictions.count), ("bleu_of_two", 0..<2),
    ] {
      let expected = try #require(fixture[name]?.doubleValue)
      let score = metric.score(predictions: Array(predictions[range]), references: Array(references[range]))
      #expect(abs(score - expected) < 1e-9, "\(name)")
    }
  }

  @Test("ROUGE equals rouge-score", arguments: [("english", ROUGE.Units.words), ("chinese", .characters)])
  func rouge(language: String, units: ROUGE.Units) throws {
    let (fixture, predictions, references) = try texts(language)
    let expected = try #require(fixture["rouge"]?.arrayValue)
    for metric in [
      ROUGE(.n(1), units: units), ROUGE(.n(2), units: units), ROUGE(.longestCommonSubsequence, units: units),
    ] {
      var sum = 0.0
      for (index, scores) in expected.enumerated() {
        let score = metric.score(prediction: predictions[index], reference: references[index])
        let wanted = try #require(scores[metric.name]?.doubles)
        #expect(abs(score.precision - wanted[0]) < 1e-12, "\(metric.name) of \(predictions[index])")
        #expect(abs(score.recall - wanted[1]) < 1e-12, "\(metric.name) of \(predictions[index])")
        #expect(abs(score.f1 - wanted[2]) < 1e-12, "\(metric.name) of \(predictions[index])")
        sum += wanted[2]
      }
      let mean = metric.score(predictions: predictions, references: references)
      #expect(abs(mean - 100 * sum / Double(expected.count)) < 1e-9)
    }
  }

  private func texts(_ language: String) throws -> (JSONValue, [String], [String]) {
    let languages = try Fixture.json("metrics.json")
    let fixture = try #require(languages[language])
    let texts = try ["predictions", "references"].map {
      try #require(fixture[$0]?.strings)
    }
    return (fixture, texts[0], texts[1])
  }

  @Test("exact match ignores white space at the ends only, unless normalized")
  func exactMatch() {
    let (plain, normalized) = (ExactMatch(), ExactMatch(isNormalized: true))
    #expect(plain.matches(" {\"a\":1}\n", "{\"a\":1}"))
    #expect(!plain.matches("{\"a\": 1}", "{\"a\":1}"))
    #expect(!plain.matches("é", "e\u{301}"))
    #expect(normalized.matches("The  Cat, sat!", "cat sat"))
    #expect(normalized.matches("可以。", "可以"))
    #expect(!normalized.matches("a cat", "cats"))
    #expect(plain.score(predictions: ["a", "b", "c", "d"], references: ["a", "b", "c", "x"]) == 75)
  }

  @Test("Chinese texts are told from others")
  func language() {
    #expect(TextMetrics.areChinese(["使用 iPhone 打开"]))
    #expect(!TextMetrics.areChinese(["The word 中 in an English sentence"]))
    #expect(!TextMetrics.areChinese([""]))
    #expect(TextMetrics.all(isChinese: true).map(\.name).contains("rougeL"))
  }
}
