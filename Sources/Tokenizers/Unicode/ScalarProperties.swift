/// What a tokenizer asks about a Unicode scalar, looked up in a two-stage table.
///
/// The answers come from the reference tokenizer (see `UnicodeTables`), not from the Unicode version
/// of the standard library: token ids must not change with the toolchain.
struct ScalarProperties: Sendable {
  static let shared = ScalarProperties()

  /// Block of 256 scalars → position of the block in `kinds`.
  let blocks: [UInt16]
  /// Index into `UnicodeTables.propertyKinds` for each scalar of each distinct block.
  let kinds: [UInt8]

  private init() {
    let runs = UnicodeTables.properties
    var blocks: [UInt16] = []
    var kinds: [UInt8] = []
    var known: [[UInt8]: UInt16] = [:]
    var run = 0
    func end(_ run: Int) -> Int { run + 1 < runs.count ? Int(runs[run + 1] >> 8) : 0x110000 }
    for block in 0..<(0x110000 >> 8) {
      let scalars = block << 8..<(block + 1) << 8
      while end(run) <= scalars.lowerBound { run += 1 }
      // Most blocks lie in one run, together with the block before: no need to look at 256 scalars.
      if Int(runs[run] >> 8) <= scalars.lowerBound - 256, end(run) >= scalars.upperBound {
        blocks.append(blocks[block - 1])
        continue
      }
      var values: [UInt8] = []
      values.reserveCapacity(256)
      for scalar in scalars {
        if end(run) <= scalar { run += 1 }
        values.append(UInt8(truncatingIfNeeded: runs[run]))
      }
      if let position = known[values] {
        blocks.append(position)
        continue
      }
      let position = UInt16(kinds.count >> 8)
      known[values] = position
      blocks.append(position)
      kinds += values
    }
    self.blocks = blocks
    self.kinds = kinds
  }

  /// The property bits of a scalar, as `UnicodeTables.propertyKinds` documents them.
  subscript(scalar: UInt32) -> UInt16 {
    UnicodeTables.propertyKinds[
      Int(kinds[Int(blocks[Int(scalar >> 8)]) << 8 | Int(scalar & 0xFF)])]
  }

  /// General category L.
  func isLetter(_ scalar: UInt32) -> Bool { self[scalar] & 0x1F < 5 }
  /// Rust's `char::is_numeric`: what the Digits pre-tokenizer isolates.
  func isNumeric(_ scalar: UInt32) -> Bool { self[scalar] & Self.numeric != 0 }
  /// What the Punctuation pre-tokenizer isolates.
  func isPunctuation(_ scalar: UInt32) -> Bool { self[scalar] & Self.punctuation != 0 }
  /// Rust's `char::is_whitespace`.
  func isWhitespace(_ scalar: UInt32) -> Bool { self[scalar] & Self.whitespace != 0 }
  /// `\w` of Rust's regex crate: word characters of the Whitespace pre-tokenizer and of added tokens.
  func isWord(_ scalar: UInt32) -> Bool { self[scalar] & Self.word != 0 }
  /// What StripAccents removes.
  func isCombiningMark(_ scalar: UInt32) -> Bool { self[scalar] & Self.mark != 0 }

  static let patternWord: UInt16 = 1 << 5
  static let patternSpace: UInt16 = 1 << 6
  static let numeric: UInt16 = 1 << 7
  static let punctuation: UInt16 = 1 << 8
  static let whitespace: UInt16 = 1 << 9
  static let word: UInt16 = 1 << 10
  static let mark: UInt16 = 1 << 11
}
