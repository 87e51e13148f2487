import Foundation
import JSON
import Testing
import Tokenizers

@Suite struct RobustnessTests {
  @Test(
    "random bytes encode as their repaired text does, and come back",
    arguments: ["qwen2", "llama3", "smollm", "falcon"])
  func randomBytes(_ name: String) throws {
    let tokenizer = try Fixture.tokenizer(name)
    var random = SeededGenerator(state: 3)
    for round in 0..<3000 {
      let count = Int.random(in: 0..<60, using: &random)
      let bytes = (0..<count).map { _ in
        // Mostly bytes that begin or continue a sequence.
        round % 2 == 0
          ? UInt8.random(in: 0...255, using: &random) : UInt8.random(in: 0x7E...0xF5, using: &random)
      }
      let ids = tokenizer.encode(utf8: bytes)
      let repaired = String(decoding: bytes, as: UTF8.self)
      #expect(ids == tokenizer.encode(repaired))
      if name != "qwen2" {
        // No normalizer: byte-level tokens give back every byte.
        let back = tokenizer.decode(tokenizer.encode(repaired, addSpecialTokens: false))
        #expect(Array(back.utf8) == Array(repaired.utf8))
      }
    }
  }

  @Test(
    "invalid UTF-8 is replaced as Python and Rust replace it",
    arguments: [
      ([0x61, 0xFF, 0x62], "a\u{FFFD}b"), ([0xE4, 0xBD], "\u{FFFD}"), ([0xE4, 0xBD, 0x41], "\u{FFFD}A"),
      ([0xF0, 0x9F, 0x98, 0xF0, 0x9F, 0x98, 0x80], "\u{FFFD}😀"), ([0xC0, 0x80], "\u{FFFD}\u{FFFD}"),
      ([0xED, 0xA0, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}"),
      ([0xF4, 0x90, 0x80, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}\u{FFFD}"),
      ([0xE0, 0x80, 0x80], "\u{FFFD}\u{FFFD}\u{FFFD}"), ([0x80, 0x80], "\u{FFFD}\u{FFFD}"),
    ] as [([UInt8], String)])
  func invalidUTF8(_ bytes: [UInt8], _ text: String) throws {
    let tokenizer = try Fixture.tokenizer("smollm")
    #expect(tokenizer.decode(tokenizer.encode(utf8: bytes)) == text)
    #expect(tokenizer.encode(utf8: bytes) == tokenizer.encode(text))
  }

  @Test("byte-level tokenizers give every line back", arguments: ["llama3", "smollm", "falcon"])
  func roundTrip(_ name: String) throws {
    let tokenizer = try Fixture.tokenizer(name)
    for line in try Fixture.lines.get().prefix(3000) {
      let ids = tokenizer.encode(line, addSpecialTokens: false)
      #expect(Array(tokenizer.decode(ids).utf8) == Array(line.utf8))
    }
  }

  @Test("random ids decode without a trap, unknown ones to nothing", arguments: Fixture.names)
  func randomIDs(_ name: String) throws {
    let tokenizer = try Fixture.tokenizer(name)
    var random = SeededGenerator(state: 9)
    for _ in 0..<500 {
      let ids = (0..<20).map { _ in Int32.random(in: 0..<Int32(tokenizer.vocabularySize + 3), using: &random)
      }
      var stream = StreamingDecoder(tokenizer)
      let streamed = ids.map { stream.append($0) }.joined() + stream.finish()
      #expect(Array(streamed.utf8) == Array(tokenizer.decode(ids).utf8))
    }
    #expect(tokenizer.decode([-1, .max, .min]) == "")
  }

  @Test(
    "a word of a megabyte does not take quadratic time", .timeLimit(.minutes(1)),
    arguments: ["a", "汉", "ab'"])
  func longWord(_ unit: String) throws {
    for name in ["qwen2", "llama2", "bare"] {
      let tokenizer = try Fixture.tokenizer(name)
      let text = String(repeating: unit, count: 1_000_000 / unit.utf8.count)
      let ids = tokenizer.encode(text, addSpecialTokens: false)
      if name != "bare" { #expect(tokenizer.decode(ids) == text) }
    }
  }

  @Test("damaged documents throw, whatever is changed in them")
  func damagedDocuments() throws {
    let data = Array(try Fixture.data("added-tokens"))
    var random = SeededGenerator(state: 21)
    for _ in 0..<150 {
      var damaged = data
      for _ in 0..<3 {
        damaged[Int.random(in: 0..<min(4000, damaged.count), using: &random)] = UInt8.random(
          in: 32...126, using: &random)
      }
      // Either it is still a tokenizer, or it throws; it never traps.
      if let tokenizer = try? Tokenizer(tokenizerJSON: Data(damaged)) {
        _ = tokenizer.encode("DON'T <mask> the")
      }
    }
    for count in stride(from: 0, to: data.count, by: data.count / 50) {
      #expect(throws: TokenizerError.self) { try Tokenizer(tokenizerJSON: Data(data[..<count])) }
    }
  }

  @Test(
    "what is not implemented is named",
    arguments: [
      (#"{"model": {"type": "Unigram", "vocab": []}}"#, "`Unigram`"),
      (#"{"normalizer": {"type": "Nmt"}, "model": {"type": "BPE", "vocab": {}, "merges": []}}"#, "`Nmt`"),
      (
        #"{"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Bert"}]}, "model": {"type": "BPE", "vocab": {}, "merges": []}}"#,
        "pre_tokenizer.pretokenizers[0]"
      ),
      (#"{"model": {"type": "BPE", "dropout": 0.1, "vocab": {}, "merges": []}}"#, "dropout"),
      (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}"#, "not in its vocabulary"),
      (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]}}"#, "one space"),
      (
        ##"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["#version: 0.2", ["a"]]}}"##,
        "model.merges[1]"
      ),
      (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "a", "a"]]}}"#, "model.merges[0]"),
      (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", 1]]}}"#, "model.merges[0]"),
      (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [{}]}}"#, "model.merges[0]"),
      (
        #"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": {}}}"#,
        "`model.merges` of tokenizer.json is an object"
      ),
      (#"{"model": {"type": "BPE", "vocab": {"a": 0}}}"#, "`model.merges` of tokenizer.json is missing"),
      (
        #"{"model": {"type": "BPE", "vocab": [["a", 0]], "merges": []}}"#,
        "`model.vocab` of tokenizer.json is an array"
      ),
      (#"{"model": {"type": "BPE", "vocab": {"a": 0}, "vocab": 1, "merges": []}}"#, "`model.vocab`"),
      (
        #"{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}, "model": {"type": "BPE", "merges": []}}"#,
        "`model.vocab`"
      ),
      (#"{"model": {"type": "BPE", "vocab": {"a": "0"}, "merges": []}}"#, "no id between"),
      (#"{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}"#, "no id between"),
      (#"{"model": {"type": "BPE", "vocab": {"a": 99999999999}, "merges": []}}"#, "no id between"),
      (#"{"version": "2.0", "model": {}}"#, "version"),
      (#"{"decoder": {"type": "CTC"}, "model": {"type": "BPE", "vocab": {}, "merges": []}}"#, "`CTC`"),
      (
        #"{"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}], "pair": [], "special_tokens": {}}, "model": {"type": "BPE", "vocab": {}, "merges": []}}"#,
        "<s>"
      ),
      ("[1]", "not an object"), ("{", "not valid JSON"),
    ])
  func errors(_ json: String, _ part: String) throws {
    let error = #expect(throws: TokenizerError.self) { try Tokenizer(tokenizerJSON: Data(json.utf8)) }
    #expect(error?.message.contains(part) == true, "\(error?.message ?? "")")
  }
}
