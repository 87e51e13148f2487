import Foundation
import JSON
import Tokenizers

/// What Fixtures/make_fixtures.py recorded.
struct Fixture: Sendable {
  static let directory = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appending(path: "Fixtures")
  static let names = [
    "qwen2", "llama3", "gpt2", "smollm", "falcon", "o200k-nfd", "cl100k", "behaviors", "added-tokens",
    "llama2", "metaspace-first", "metaspace-always", "metaspace-never", "end-of-word",
    "continuing-prefix", "bare", "byte-level-normalizer",
  ]

  static func json(_ name: String) throws -> JSONValue {
    try JSONValue(parsing: Data(contentsOf: directory.appending(path: name)))
  }

  static let lines = Result {
    try json("lines.json").arrayValue?.compactMap(\.stringValue) ?? []
  }
  static let expected = Result { try json("expected.json") }

  static func data(_ name: String) throws -> Data {
    try Data(contentsOf: directory.appending(path: "tokenizers/\(name).json"))
  }

  static func tokenizer(_ name: String) throws -> Tokenizer {
    try Tokenizer(tokenizerJSON: data(name))
  }

  /// The hash of make_fixtures.py: FNV-1a over little-endian 32-bit numbers, folded to 24 bits.
  static func hash(_ numbers: some Sequence<Int>) -> String {
    var value: UInt32 = 0x811C_9DC5
    for number in numbers {
      for shift in [0, 8, 16, 24] {
        value = (value ^ UInt32(truncatingIfNeeded: number >> shift & 0xFF)) &* 0x0100_0193
      }
    }
    let text = String((value ^ value >> 24) & 0xFF_FFFF, radix: 16)
    return String(repeating: "0", count: 6 - text.count) + text
  }
}

extension String {
  /// Consecutive pieces of six characters.
  var hashes: [String] {
    let bytes = Array(utf8)
    return stride(from: 0, to: bytes.count, by: 6).map {
      String(decoding: bytes[$0..<$0 + 6], as: UTF8.self)
    }
  }
}
