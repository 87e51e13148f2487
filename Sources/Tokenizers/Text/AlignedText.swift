/// Where a byte of processed text came from: bytes of the text that was given, whole scalars.
struct SourceRange: Equatable, Sendable {
  var start: Int
  var end: Int
}

/// A piece of text that normalizers rewrite, and for each byte where it came from.
///
/// An edit is told as the reference tokenizer tells it, because offsets follow from it: a list of
/// new scalars, each with a change: 0 replaces the next old scalar, a positive change is an insertion,
/// and −n replaces one old scalar and swallows the n after it.
struct AlignedText: Sendable {
  /// The text, valid UTF-8.
  private(set) var bytes: [UInt8]
  /// For each byte its source; nil while nothing has changed, or where nobody asks for offsets.
  private(set) var alignment: [SourceRange]?
  /// Position of the first byte in the source, while nothing has changed.
  let origin: Int
  /// Whether edits keep `alignment` up to date.
  let tracksSource: Bool

  /// One scalar of an edit.
  struct Change {
    let scalar: UInt32
    var change: Int
  }

  init(
    _ bytes: [UInt8], origin: Int = 0, tracksSource: Bool = false,
    alignment: [SourceRange]? = nil
  ) {
    self.bytes = bytes
    self.origin = origin
    self.tracksSource = tracksSource
    self.alignment = alignment
  }

  init(_ text: String) { self.init(Array(text.utf8)) }

  var scalars: [UInt32] { UTF8Text.scalars(bytes) }

  /// The source of each byte.
  var sources: [SourceRange] {
    alignment ?? Self.identity(bytes, origin: origin)
  }

  /// Each byte came from the scalar it belongs to.
  static func identity(_ bytes: [UInt8], origin: Int) -> [SourceRange] {
    bytes.withUnsafeBufferPointer { buffer in
      var result: [SourceRange] = []
      result.reserveCapacity(buffer.count)
      var position = 0
      while position < buffer.count {
        let length = UTF8Text.scalar(buffer, at: position).length
        let source = SourceRange(start: origin + position, end: origin + position + length)
        for _ in 0..<length { result.append(source) }
        position += length
      }
      return result
    }
  }

  /// Rewrites `range` (all of the text by default) as `changes` say; the first `removed` scalars of
  /// the range are dropped before.
  mutating func transform(
    _ changes: some Sequence<Change>, in range: Range<Int>? = nil, removingFirst removed: Int = 0
  ) {
    let range = range ?? 0..<bytes.count
    var output: [UInt8] = []
    output.reserveCapacity(range.count)
    guard tracksSource else {
      for change in changes { UTF8Text.append(change.scalar, to: &output) }
      bytes.replaceSubrange(range, with: output)
      return
    }
    let old = sources
    var moved: [SourceRange] = []
    moved.reserveCapacity(range.count)
    var offset = range.lowerBound
    for _ in 0..<removed { offset = next(offset, range.upperBound) }
    for change in changes {
      let source: SourceRange
      if change.change > 0 {
        // Inserted: it shares the source of the scalar before it.
        source = offset < 1 ? SourceRange(start: 0, end: 0) : old[offset - 1]
      } else {
        source =
          offset < old.count ? old[offset] : old.last ?? SourceRange(start: origin, end: origin)
        for _ in 0...(-change.change) { offset = next(offset, range.upperBound) }
      }
      UTF8Text.append(change.scalar, to: &output)
      for _ in 0..<UTF8Text.length(change.scalar) { moved.append(source) }
    }
    var sources = old
    sources.replaceSubrange(range, with: moved)
    alignment = sources
    bytes.replaceSubrange(range, with: output)
  }

  private func next(_ offset: Int, _ end: Int) -> Int {
    var offset = offset
    guard offset < end else { return offset }
    offset += 1
    while offset < end, bytes[offset] & 0xC0 == 0x80 { offset += 1 }
    return offset
  }

  /// Puts `text` before the first scalar; an empty text stays empty.
  mutating func prepend(_ text: String) {
    guard
      let first = bytes.withUnsafeBufferPointer({ buffer in
        buffer.isEmpty ? nil : UTF8Text.scalar(buffer, at: 0)
      })
    else { return }
    var changes: [Change] = []
    for (index, scalar) in text.unicodeScalars.enumerated() {
      changes.append(Change(scalar: scalar.value, change: index == 0 ? 0 : 1))
    }
    changes.append(Change(scalar: first.value, change: 1))
    transform(changes, in: 0..<first.length)
  }

  /// Keeps the scalars that satisfy `keep`.
  mutating func filter(_ keep: (UInt32) -> Bool) {
    var changes: [Change] = []
    var removedFirst = 0
    var dropped = false
    for scalar in scalars {
      if keep(scalar) {
        changes.append(Change(scalar: scalar, change: 0))
      } else {
        dropped = true
        if changes.isEmpty {
          removedFirst += 1
        } else {
          changes[changes.count - 1].change -= 1
        }
      }
    }
    if dropped { transform(changes, removingFirst: removedFirst) }
  }

  /// Replaces every match of `pattern` by `replacement`, which takes the source of the last scalar
  /// that it replaces.
  mutating func replace(_ pattern: RegularExpression, with replacement: [UInt8]) {
    var matches: [(Int, Int)] = []
    bytes.withUnsafeBufferPointer { buffer in
      pattern.forEachMatch(in: buffer, range: 0..<buffer.count) { matches.append(($0, $1)) }
    }
    guard !matches.isEmpty else { return }
    let old = tracksSource ? sources : []
    var output: [UInt8] = []
    var moved: [SourceRange] = []
    var last = 0
    for (start, end) in matches {
      output += bytes[last..<start]
      output += replacement
      if tracksSource {
        moved += old[last..<start]
        let source = end < 1 ? SourceRange(start: 0, end: 0) : old[end - 1]
        for _ in replacement { moved.append(source) }
      }
      last = end
    }
    output += bytes[last...]
    if tracksSource {
      moved += old[last...]
      alignment = moved
    }
    bytes = output
  }

  /// Removes white space at the ends.
  mutating func strip(left: Bool, right: Bool) {
    let scalars = self.scalars
    let properties = ScalarProperties.shared
    var start = 0
    var end = scalars.count
    if left { while start < end, properties.isWhitespace(scalars[start]) { start += 1 } }
    if right { while end > start, properties.isWhitespace(scalars[end - 1]) { end -= 1 } }
    guard start > 0 || end < scalars.count else { return }
    transform(
      scalars[start..<end].map { Change(scalar: $0, change: 0) }, removingFirst: start)
  }
}
