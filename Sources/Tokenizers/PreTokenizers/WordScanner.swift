/// Cuts text into words as one of the well-known split patterns does, without running the pattern.
///
/// Each follows its pattern alternative by alternative; a test holds it against the general engine.
struct WordScanner: Sendable {
  private enum Rules: Equatable {
    case gpt2
    case digits(Int)
  }
  private let rules: Rules
  private let classes: ScalarClasses

  private init(_ rules: Rules) {
    self.rules = rules
    classes = .shared
  }

  static let gpt2Pattern =
    #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#
  static let qwen2Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"#
    + #"\s*[\r\n]+|\s+(?!\S)|\s+"#
  static let llama3Pattern =
    #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"#
    + #"\s*[\r\n]+|\s+(?!\S)|\s+"#

  /// The pattern of the ByteLevel pre-tokenizer.
  static let gpt2 = WordScanner(.gpt2)

  /// A scanner for `pattern`, where there is one.
  init?(pattern: String) {
    switch pattern {
    case Self.gpt2Pattern: self.init(.gpt2)
    case Self.qwen2Pattern: self.init(.digits(1))
    case Self.llama3Pattern: self.init(.digits(3))
    default: return nil
    }
  }

  /// Calls `body` with the bounds of each word; the words cover the range.
  @inline(__always)
  func forEachWord(
    in text: UnsafeBufferPointer<UInt8>, _ range: Range<Int>, _ body: (Int, Int) -> Void
  ) {
    var position = range.lowerBound
    classes.withTables { classes in
      let cursor = Cursor(text: text, upper: range.upperBound, classes: classes)
      switch rules {
      case .gpt2:
        while position < range.upperBound {
          let end = cursor.endOfGPT2Word(position)
          body(position, end)
          position = end
        }
      case .digits(let limit):
        while position < range.upperBound {
          let end = cursor.endOfQwenWord(position, limit)
          body(position, end)
          position = end
        }
      }
    }
  }

  private struct Cursor {
    let text: UnsafeBufferPointer<UInt8>
    let upper: Int
    let classes: ScalarClasses.Tables

    /// Class and length of the scalar at `position`; class 0xFF at the end.
    @inline(__always)
    func look(_ position: Int) -> (kind: UInt8, length: Int) {
      guard position < upper else { return (0xFF, 0) }
      let byte = text[position]
      if byte < 0x80 { return (classes[UInt32(byte)], 1) }
      let (scalar, length) = UTF8Text.scalar(text, at: position)
      return (classes[scalar], length)
    }

    /// The end of the run of scalars of one class.
    @inline(__always)
    func run(_ start: Int, _ kind: UInt8) -> Int {
      var position = start
      while true {
        let (next, length) = look(position)
        guard next == kind else { return position }
        position += length
      }
    }

    /// `\s+(?!\S)|\s+`: white space up to the end of the text, or all but its last scalar.
    func endOfSpace(_ start: Int) -> Int {
      var position = start
      var last = start
      while true {
        let (kind, length) = look(position)
        guard kind & ScalarClasses.space != 0, kind != 0xFF else { break }
        last = position
        position += length
      }
      return position == upper || last == start ? position : last
    }

    /// The end of `'s`, `'t`, `'re` … at an apostrophe; nil where none follows.
    func endOfContraction(_ start: Int, ignoringCase: Bool) -> Int? {
      func letter(_ position: Int) -> (UInt8, Int) {
        guard position < upper else { return (0, 0) }
        let byte = text[position]
        guard ignoringCase else { return (byte, 1) }
        // U+017F, the long s, is an s without case.
        if byte == 0xC5, text[position + 1] == 0xBF { return (0x73, 2) }
        return (byte | 0x20, byte < 0x80 ? 1 : 0)
      }
      let (first, length) = letter(start + 1)
      guard length > 0 else { return nil }
      let next = start + 1 + length
      switch first {
      case 0x73, 0x74, 0x6D, 0x64: return next  // s t m d
      case 0x72, 0x76:  // re ve
        return letter(next).0 == 0x65 && letter(next).1 == 1 ? next + 1 : nil
      case 0x6C:  // ll
        return letter(next).0 == 0x6C && letter(next).1 == 1 ? next + 1 : nil
      default: return nil
      }
    }

    @inline(__always)
    func endOfGPT2Word(_ start: Int) -> Int {
      if text[start] == 0x27, let end = endOfContraction(start, ignoringCase: false) { return end }
      var (kind, length) = look(start)
      if text[start] == 0x20 {
        let (next, nextLength) = look(start + 1)
        guard next & ScalarClasses.space == 0 else { return endOfSpace(start) }
        kind = next
        length = 1 + nextLength
      } else if kind & ScalarClasses.space != 0 {
        return endOfSpace(start)
      }
      return run(start + length, kind)
    }

    @inline(__always)
    func endOfQwenWord(_ start: Int, _ digits: Int) -> Int {
      let first = text[start]
      if first == 0x27, let end = endOfContraction(start, ignoringCase: true) { return end }
      let (kind, length) = look(start)
      if kind == ScalarClasses.letter { return run(start + length, kind) }
      if kind == ScalarClasses.number {
        var position = start + length
        var count = 1
        while count < digits {
          let (next, nextLength) = look(position)
          guard next == ScalarClasses.number else { break }
          position += nextLength
          count += 1
        }
        return position
      }
      let (next, nextLength) = look(start + length)
      // One character that is no letter, number or line break may lead a word.
      if kind & ScalarClasses.newline == 0, next == ScalarClasses.letter {
        return run(start + length + nextLength, next)
      }
      var position = start
      if kind == ScalarClasses.other {
        position = run(start + length, kind)
      } else if first == 0x20, next == ScalarClasses.other {
        position = run(start + length + nextLength, next)
      } else {
        return endOfSpaceOrLines(start)
      }
      while position < upper, text[position] == 0x0A || text[position] == 0x0D { position += 1 }
      return position
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the last line break of the white space, if it has one.
    func endOfSpaceOrLines(_ start: Int) -> Int {
      var position = start
      var afterBreak: Int?
      while true {
        let (kind, length) = look(position)
        guard kind & ScalarClasses.space != 0, kind != 0xFF else { break }
        position += length
        if kind & ScalarClasses.newline != 0 { afterBreak = position }
      }
      return afterBreak ?? endOfSpace(start)
    }
  }
}

/// The four kinds of scalars that the well-known patterns tell apart.
struct ScalarClasses: Sendable {
  static let shared = ScalarClasses()

  static let other: UInt8 = 0
  static let letter: UInt8 = 1
  static let number: UInt8 = 2
  static let space: UInt8 = 4
  /// A line break is `space | newline`.
  static let newline: UInt8 = 8

  private let blocks: [UInt16]
  private let values: [UInt8]

  private init() {
    let properties = ScalarProperties.shared
    let kinds = UnicodeTables.propertyKinds.map { bits -> UInt8 in
      let category = UnicodeTables.categoryNames[Int(bits & 0x1F)]
      if bits & ScalarProperties.patternSpace != 0 { return Self.space }
      return category.hasPrefix("L") ? Self.letter : category.hasPrefix("N") ? Self.number : Self.other
    }
    blocks = properties.blocks
    var values = properties.kinds.map { kinds[Int($0)] }
    let ascii = Int(properties.blocks[0]) << 8
    values[ascii + 0x0A] |= Self.newline
    values[ascii + 0x0D] |= Self.newline
    self.values = values
  }

  struct Tables {
    let blocks: UnsafeBufferPointer<UInt16>
    let values: UnsafeBufferPointer<UInt8>

    @inline(__always)
    subscript(scalar: UInt32) -> UInt8 {
      values[Int(blocks[Int(scalar >> 8)]) << 8 | Int(scalar & 0xFF)]
    }
  }

  @inline(__always)
  func withTables(_ body: (Tables) -> Void) {
    blocks.withUnsafeBufferPointer { blocks in
      values.withUnsafeBufferPointer { values in body(Tables(blocks: blocks, values: values)) }
    }
  }
}
