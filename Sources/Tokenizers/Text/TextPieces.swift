/// What a pre-tokenizer does with the text that its pattern finds.
enum SplitBehavior: String, Sendable {
  case removed = "Removed"
  case isolated = "Isolated"
  case mergedWithPrevious = "MergedWithPrevious"
  case mergedWithNext = "MergedWithNext"
  case contiguous = "Contiguous"
}

/// A part of a text that either matches a pattern or lies between matches.
struct PatternSpan: Equatable, Sendable {
  var start: Int
  var end: Int
  let isMatch: Bool
}

/// Finds the delimiters (or words) at which text is split.
protocol TextPattern: Sendable {
  /// Appends spans that cover `range` of `text` without gaps, in order.
  func appendSpans(
    of text: UnsafeBufferPointer<UInt8>, in range: Range<Int>, to spans: inout [PatternSpan])
}

extension RegularExpression: TextPattern {
  func appendSpans(
    of text: UnsafeBufferPointer<UInt8>, in range: Range<Int>, to spans: inout [PatternSpan]
  ) {
    var last = range.lowerBound
    forEachMatch(in: text, range: range) { start, end in
      if last < start { spans.append(PatternSpan(start: last, end: start, isMatch: false)) }
      spans.append(PatternSpan(start: start, end: end, isMatch: true))
      last = end
    }
    if last < range.upperBound {
      spans.append(PatternSpan(start: last, end: range.upperBound, isMatch: false))
    }
  }
}

/// Matches every single scalar that satisfies a predicate.
struct ScalarPattern: TextPattern {
  let matches: @Sendable (UInt32) -> Bool

  func appendSpans(
    of text: UnsafeBufferPointer<UInt8>, in range: Range<Int>, to spans: inout [PatternSpan]
  ) {
    var last = range.lowerBound
    var position = range.lowerBound
    while position < range.upperBound {
      let (scalar, length) = UTF8Text.scalar(text, at: position)
      if matches(scalar) {
        if last < position { spans.append(PatternSpan(start: last, end: position, isMatch: false)) }
        spans.append(PatternSpan(start: position, end: position + length, isMatch: true))
        last = position + length
      }
      position += length
    }
    if last < range.upperBound {
      spans.append(PatternSpan(start: last, end: range.upperBound, isMatch: false))
    }
  }
}

/// The words of a text on their way to the model: one buffer, and pieces of it.
struct TextPieces: Sendable {
  /// A word, or an added token that was found in the text.
  struct Piece: Sendable {
    let start: Int
    let end: Int
    /// The id of an added token; -1 for text that the model still has to tokenize.
    var token: Int32 = -1

    var isText: Bool { token < 0 }
  }

  /// Normalized text of all pieces, in order; valid UTF-8.
  private(set) var bytes: [UInt8]
  /// Source of each byte; nil where the text is the source itself, or where nobody asks.
  private(set) var alignment: [SourceRange]?
  private(set) var pieces: [Piece] = []
  /// Whether the bytes of text pieces stand for characters of the byte-level alphabet. They are
  /// rewritten as such only when something other than the model has to see them.
  private(set) var isByteLevel = false
  let tracksSource: Bool

  /// A text that is its own source.
  init(source: [UInt8], tracksSource: Bool) {
    bytes = source
    self.tracksSource = tracksSource
  }

  /// Appends a piece of the buffer, unless it is empty.
  mutating func append(_ piece: Piece) {
    if piece.start < piece.end || !piece.isText { pieces.append(piece) }
  }

  /// Starts anew with an empty buffer, to be filled with `append(_:token:)`.
  private mutating func clear() {
    bytes.removeAll(keepingCapacity: true)
    alignment = tracksSource ? [] : nil
    pieces.removeAll(keepingCapacity: true)
  }

  /// Appends rewritten text to the buffer, as one piece.
  private mutating func append(_ text: AlignedText, token: Int32) {
    let start = bytes.count
    bytes += text.bytes
    if tracksSource { alignment? += text.sources }
    append(Piece(start: start, end: bytes.count, token: token))
  }

  /// A piece as text of its own.
  private func text(_ piece: Piece) -> AlignedText {
    AlignedText(
      Array(bytes[piece.start..<piece.end]), origin: piece.start, tracksSource: tracksSource,
      alignment: alignment.map { Array($0[piece.start..<piece.end]) })
  }

  /// Lets `edit` rewrite the text of each text piece.
  mutating func rewrite(_ edit: (inout AlignedText) -> Void) {
    materializeByteLevel()
    rewritePieces(edit)
  }

  private mutating func rewritePieces(_ edit: (inout AlignedText) -> Void) {
    let old = self
    clear()
    for piece in old.pieces {
      var text = old.text(piece)
      if piece.isText { edit(&text) }
      append(text, token: piece.token)
    }
  }

  /// Splits each text piece at the matches of `pattern`.
  mutating func split(by pattern: some TextPattern, _ behavior: SplitBehavior, invert: Bool = false) {
    materializeByteLevel()
    let old = pieces
    pieces.removeAll(keepingCapacity: true)
    pieces.reserveCapacity(old.count + bytes.count / 4)
    var spans: [PatternSpan] = []
    var result: [Piece] = []
    swap(&result, &pieces)
    bytes.withUnsafeBufferPointer { buffer in
      for piece in old {
        guard piece.isText else {
          result.append(piece)
          continue
        }
        spans.removeAll(keepingCapacity: true)
        pattern.appendSpans(of: buffer, in: piece.start..<piece.end, to: &spans)
        Self.fold(spans, behavior, invert) { start, end in
          if start < end { result.append(Piece(start: start, end: end)) }
        }
      }
    }
    pieces = result
  }

  /// Splits text pieces with a scanner that cuts them into consecutive words.
  mutating func split(by scanner: WordScanner) {
    materializeByteLevel()
    let old = pieces
    var result: [Piece] = []
    result.reserveCapacity(old.count + bytes.count / 4)
    bytes.withUnsafeBufferPointer { buffer in
      for piece in old {
        if piece.isText {
          scanner.forEachWord(in: buffer, piece.start..<piece.end) { start, end in
            result.append(Piece(start: start, end: end))
          }
        } else {
          result.append(piece)
        }
      }
    }
    pieces = result
  }

  /// Takes text pieces apart with `find`, which says where added tokens are.
  mutating func extract(_ find: (UnsafeBufferPointer<UInt8>, Range<Int>, (Piece) -> Void) -> Void) {
    let old = pieces
    var result: [Piece] = []
    bytes.withUnsafeBufferPointer { buffer in
      for piece in old {
        if piece.isText {
          find(buffer, piece.start..<piece.end) { found in
            if found.start < found.end || !found.isText { result.append(found) }
          }
        } else {
          result.append(piece)
        }
      }
    }
    pieces = result
  }

  /// From here on, the bytes of text pieces stand for characters of the byte-level alphabet.
  mutating func markByteLevel() {
    materializeByteLevel()
    isByteLevel = true
  }

  /// Writes byte-level text out as characters of the byte-level alphabet.
  mutating func materializeByteLevel() {
    guard isByteLevel else { return }
    isByteLevel = false
    rewritePieces { text in ByteAlphabet.encode(&text) }
  }

  /// The source of a range of the buffer: from the start of its first byte's to the end of its last's.
  func source(of range: Range<Int>) -> Range<Int> {
    if let alignment {
      guard !range.isEmpty else { return range }
      let start = alignment[range.lowerBound].start
      return start..<max(start, alignment[range.upperBound - 1].end)
    }
    // Unchanged text: the whole scalars around the range.
    var start = range.lowerBound
    var end = range.upperBound
    if !range.isEmpty {
      while start > 0, bytes[start] & 0xC0 == 0x80 { start -= 1 }
      while end < bytes.count, bytes[end] & 0xC0 == 0x80 { end += 1 }
    }
    return start..<end
  }

  /// Turns spans into pieces, as `behavior` says.
  private static func fold(
    _ spans: [PatternSpan], _ behavior: SplitBehavior, _ invert: Bool,
    _ emit: (Int, Int) -> Void
  ) {
    switch behavior {
    case .isolated:
      for span in spans { emit(span.start, span.end) }
    case .removed:
      for span in spans where span.isMatch == invert { emit(span.start, span.end) }
    case .contiguous, .mergedWithPrevious:
      // A span joins the one before it: equal kinds, or a delimiter behind a non-delimiter.
      var current: (start: Int, end: Int)?
      var previous = false
      for span in spans {
        let isMatch = span.isMatch != invert
        let joins = behavior == .contiguous ? isMatch == previous : isMatch && !previous
        if joins, let open = current {
          current = (open.start, span.end)
        } else {
          if let open = current { emit(open.start, open.end) }
          current = (span.start, span.end)
        }
        previous = isMatch
      }
      if let open = current { emit(open.start, open.end) }
    case .mergedWithNext:
      var folded: [(Int, Int)] = []
      var previous = false
      for span in spans.reversed() {
        let isMatch = span.isMatch != invert
        if isMatch, !previous, let last = folded.last {
          folded[folded.count - 1] = (span.start, last.1)
        } else {
          folded.append((span.start, span.end))
        }
        previous = isMatch
      }
      for (start, end) in folded.reversed() { emit(start, end) }
    }
  }
}
