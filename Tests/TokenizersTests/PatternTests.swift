import Foundation
import JSON
import Testing
import Tokenizers

/// The regular-expression engine, seen through the words of a Split pre-tokenizer.
@Suite struct PatternTests {
  /// A tokenizer that only splits.
  private func splitter(_ pattern: String) throws -> Tokenizer {
    let document: JSONValue = [
      "pre_tokenizer": [
        "type": "Split", "pattern": ["Regex": .string(pattern)], "behavior": "Isolated", "invert": false,
      ],
      "model": ["type": "BPE", "vocab": [:], "merges": []],
    ]
    return try Tokenizer(tokenizerJSON: Data(document.serialized().utf8))
  }

  @Test("words are cut where Oniguruma cuts them")
  func agreesWithOniguruma() throws {
    let cases = try #require(Fixture.json("patterns.json").arrayValue)
    #expect(cases.count > 60)
    let lines = try Fixture.lines.get()
    for item in cases {
      let pattern = try #require(item["pattern"]?.stringValue)
      let tokenizer = try splitter(pattern)
      for (index, hash) in try #require(item["hashes"]?.stringValue).hashes.enumerated() {
        let words = tokenizer.words(of: lines[index])
        let actual = Fixture.hash(words.flatMap { [$0.lowerBound, $0.upperBound] })
        if actual != hash {
          Issue.record("\(pattern) on \(lines[index].debugDescription): \(words)")
          break
        }
      }
    }
  }

  @Test("the matchers made by hand agree with the engine on every line")
  func scannersAgreeWithEngine() throws {
    let cases = try #require(Fixture.json("patterns.json").arrayValue).prefix(3)
    for item in cases {
      let pattern = try #require(item["pattern"]?.stringValue)
      let scanner = try splitter(pattern)
      // In a group the pattern is not recognized as a well-known one.
      let engine = try splitter("(?:\(pattern))")
      for line in try Fixture.lines.get() { #expect(scanner.words(of: line) == engine.words(of: line)) }
      var random = SeededGenerator(state: 5)
      let alphabet = Array("a s S t'é1٣½ \n\r\t\u{3000}-ſ汉D.lLvVrReEm".unicodeScalars)
      for _ in 0..<20_000 {
        var text = ""
        for _ in 0..<Int.random(in: 0..<9, using: &random) {
          text.unicodeScalars.append(alphabet[Int.random(in: 0..<alphabet.count, using: &random)])
        }
        #expect(scanner.words(of: text) == engine.words(of: text), "\(text.debugDescription)")
      }
    }
  }

  @Test(
    "no pattern takes more than linear time, or the stack", .timeLimit(.minutes(1)),
    arguments: [
      "(?:a+)+b", "(?:a|a)+b", "(?:a|aa)+$b", "a*a*a*a*a*c", "(?:a?){40}b", "(?:(?:a+)+)+b", "(?=(?:a+)+b)a",
      "(?>(?:a|aa)+)b", "(?:a+?)+?b", "(?:.*a){12}b", "a*b", "(?:a*?b|c)",
    ])
  func isBounded(_ pattern: String) throws {
    let tokenizer = try splitter(pattern)
    let text = String(repeating: "a", count: 20_000)
    #expect(tokenizer.words(of: text) == [0..<20_000])
  }

  @Test(
    "mistakes and gaps in patterns are named",
    arguments: [
      ("(a", "`(` without `)`"), ("a)", "unmatched `)`"), ("[a", "`[` without `]`"),
      ("*a", "nothing to repeat"),
      (#"(a)\1"#, #"`\1`"#), (#"\p{Klingon}"#, #"`\p{Klingon}`"#), ("(?:a*)*", "can be empty"),
      ("(?<=a+)b", "lookbehind"), ("a{1001}", "repetition count"), ("[z-a]", "counts downwards"),
      (String(repeating: "(", count: 500) + String(repeating: ")", count: 500), "nested"),
      ("((a{999}){999}){999}", "instructions"), (#"\xZZ"#, "Unicode scalar"), ("\\", "at the end"),
    ])
  func errors(_ pattern: String, _ part: String) throws {
    let error = #expect(throws: TokenizerError.self) { try splitter(pattern) }
    #expect(error?.message.contains(part) == true, "\(error?.message ?? "")")
  }
}
