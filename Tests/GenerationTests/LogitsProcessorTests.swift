import Formats
import Foundation
import Generation
import JSON
import Testing
import Torch

@Suite("Logits processors")
struct LogitsProcessorTests {
  static let cases: [String] =
    (try? Fixture.json("processors.json"))?["cases"]?.objectValue.map {
      Array($0.keys)
    } ?? []

  @Test("there are fixtures")
  func fixtures() { #expect(Self.cases.count >= 20) }

  @Test("all processors of a configuration give transformers' scores", arguments: cases)
  func reference(name: String) throws {
    let description = try Fixture.json("processors.json")
    let tensors = try Checkpoint.open(Fixture.own.appending(path: "processors.safetensors"))
    let sequences = try #require(description["sequences"]?.arrayValue).map { value in
      func tokens(_ key: String) -> [Int32] {
        value[key]?.arrayValue?.compactMap { $0.intValue.map(Int32.init) } ?? []
      }
      return TokenSequence(prompt: tokens("prompt"), generated: tokens("generated"))
    }
    let ends = try #require(description["eos_token_id"]?.arrayValue).compactMap {
      $0.intValue.map(Int32.init)
    }
    let settings = try #require(description["cases"]?[name])
    let config = try GenerationConfig(json: settings, source: name)

    let scores = try tensors.tensor("scores", dtype: nil)
    let before = try scores.floats()
    let result = try LogitsProcessors.of(config, eosTokens: ends).reduce(scores) { try $1($0, sequences) }
    let expected = try tensors.tensor("expected.\(name)", dtype: nil).floats()
    let values = try result.floats()
    #expect(values.count == expected.count)
    for (index, (value, wanted)) in zip(values, expected).enumerated() {
      #expect(
        value == wanted || abs(value - wanted) <= 1e-5 * abs(wanted),
        "score \(index): \(value), not \(wanted)")
    }
    #expect(try scores.floats() == before, "the scores that were given have changed")
  }

  @Test("the nucleus is found where it is larger than the part that is sorted")
  func wideNucleus() throws {
    // 5,000 tokens of almost the same probability: 0.9 of it needs about 4,500.
    let scores = try Tensor((0..<5000).map { Float($0) * 1e-6 }, shape: [1, 5000])
    let kept = try TopP(0.9)(scores, [TokenSequence(prompt: [0])]).floats().filter { $0 > -.infinity }
    #expect((4480...4500).contains(kept.count), "\(kept.count) tokens")
    #expect(kept.min()! > 500e-6 - 20e-6)
  }
}
