import Foundation
import JSON
import Testing
import Tokenizers

/// Every recorded tokenizer against the `tokenizers` package, line by line.
@Suite struct ReferenceTests {
  @Test("ids, offsets and decoded text are those of the reference", arguments: Fixture.names)
  func agreesWithReference(_ name: String) throws {
    let tokenizer = try Fixture.tokenizer(name)
    let expected = try #require(Fixture.expected.get()[name])
    let lines = try Fixture.lines.get()
    let ids = try #require(expected["ids"]?.stringValue).hashes
    let offsets = try #require(expected["offsets"]?.stringValue).hashes
    let decoded = try #require(expected["decoded"]?.stringValue).hashes
    let skipped = try #require(expected["skipped"]?.stringValue).hashes
    #expect(ids.count == (name == "qwen2" ? 10_000 : 1_500))
    var differences: [String] = []
    for index in ids.indices {
      let line = lines[index]
      let encoding = tokenizer.encodeWithOffsets(line)
      let quick = tokenizer.encode(line)
      if quick != encoding.ids { differences.append("\(index): encode differs from encodeWithOffsets") }
      if Fixture.hash(quick.map(Int.init)) != ids[index] {
        differences.append("\(index): ids \(quick) of \(line.debugDescription)")
      } else if Fixture.hash(encoding.offsets.flatMap { [$0.lowerBound, $0.upperBound] }) != offsets[index] {
        differences.append("\(index): offsets \(encoding.offsets) of \(line.debugDescription)")
      }
      let text = tokenizer.decode(quick)
      if Fixture.hash(text.utf8.map(Int.init)) != decoded[index] {
        differences.append("\(index): decoded \(text.debugDescription) of \(line.debugDescription)")
      }
      let without = tokenizer.decode(quick, skipSpecialTokens: true)
      if Fixture.hash(without.utf8.map(Int.init)) != skipped[index] {
        differences.append("\(index): decoded, skipping, \(without.debugDescription)")
      }
    }
    #expect(
      differences.isEmpty,
      "\(differences.count) differences: \(differences.prefix(5).joined(separator: "\n"))")
    for example in expected["examples"]?.arrayValue ?? [] {
      let index = try #require(example[0]?.intValue)
      #expect(tokenizer.encode(lines[index]).map(Int.init) == example[1]?.arrayValue?.compactMap(\.intValue))
    }
    #expect(tokenizer.vocabularySize == expected["size"]?.intValue)
  }

  @Test("pairs carry the reference's ids, types and special marks", arguments: Fixture.names)
  func pairs(_ name: String) throws {
    let tokenizer = try Fixture.tokenizer(name)
    let expected = try #require(Fixture.expected.get()[name]?["pairs"]?.arrayValue)
    #expect(expected.count == 10)
    for pair in expected {
      let line = try Fixture.lines.get()[#require(pair[0]?.intValue)]
      let encoding = tokenizer.encodeWithOffsets(line, pair: "second text")
      #expect(encoding.ids.map(Int.init) == pair[1]?.arrayValue?.compactMap(\.intValue))
      #expect(encoding.typeIDs.map(Int.init) == pair[2]?.arrayValue?.compactMap(\.intValue))
      #expect(encoding.isSpecial.map { $0 ? 1 : 0 } == pair[3]?.arrayValue?.compactMap(\.intValue))
    }
  }

  @Test("without special tokens nothing is added", arguments: Fixture.names)
  func withoutSpecialTokens(_ name: String) throws {
    let expected = try Fixture.expected.get()
    let text = try #require(expected["without"]?.stringValue)
    let ids = try Fixture.tokenizer(name).encode(text, addSpecialTokens: false)
    #expect(ids.map(Int.init) == expected[name]?["without"]?.arrayValue?.compactMap(\.intValue))
  }

  @Test("streamed pieces join to the decoded text", arguments: Fixture.names, [false, true])
  func streaming(_ name: String, _ skip: Bool) throws {
    let tokenizer = try Fixture.tokenizer(name)
    var random = SeededGenerator(state: 11)
    for line in try Fixture.lines.get().prefix(300) {
      var ids = tokenizer.encode(line)
      if Bool.random(using: &random) { ids.shuffle(using: &random) }
      var decoder = StreamingDecoder(tokenizer, skipSpecialTokens: skip)
      var pieces = ids.map { decoder.append($0) }
      pieces.append(decoder.finish())
      #expect(
        Array(pieces.joined().utf8) == Array(tokenizer.decode(ids, skipSpecialTokens: skip).utf8), "\(ids)")
    }
  }

  @Test("a batch on several threads gives what single calls give")
  func batch() throws {
    let tokenizer = try Fixture.tokenizer("qwen2")
    let lines = Array(try Fixture.lines.get().prefix(2000))
    let single = lines.map { tokenizer.encode($0) }
    #expect(tokenizer.encodeBatch(lines, threads: 4) == single)
    #expect(tokenizer.encodeBatch([]) == [])
    #expect(tokenizer.batchDecode(single) == single.map { tokenizer.decode($0) })
  }
}

/// SplitMix64: tests must see the same numbers every time.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var value = state
    value = (value ^ value >> 30) &* 0xBF58_476D_1CE4_E5B9
    value = (value ^ value >> 27) &* 0x94D0_49BB_1331_11EB
    return value ^ value >> 31
  }
}
