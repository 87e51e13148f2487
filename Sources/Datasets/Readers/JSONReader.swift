import JSON

/// Reads a JSON file that holds an array of objects, one object at a time.
///
/// Files called `.json` often hold JSON Lines; a file that starts with `{` is read as such.
final class JSONReader: RowReader {
  var replacedBytes: Int { source.replacements }

  private let source: TextSource
  private let lines: JSONLinesReader?
  private var row = 0
  private var line = 1
  private var column = 1
  private var isDone = false

  init(_ source: TextSource) throws {
    self.source = source
    while true {
      if source.position == source.buffer.count,
        try !source.refill(at: .init(file: source.path, line: 1))
      {
        throw DataError(
          "the file is empty", at: .init(file: source.path),
          remedy: "It should hold an array of objects: [{\"text\": \"…\"}, …]")
      }
      let byte = source.buffer[source.position]
      guard Self.isSpace(byte) else { break }
      source.position += 1
    }
    // The line count of either reader starts at the top of the file.
    let skipped = source.buffer[..<source.position]
    let isLines = source.buffer[source.position] == UInt8(ascii: "{")
    if isLines {
      source.position = 0
      lines = JSONLinesReader(source)
      return
    }
    lines = nil
    line += skipped.count { $0 == Self.lineFeed }
    guard source.buffer[source.position] == UInt8(ascii: "[") else {
      throw DataError(
        "the file holds neither an array of objects nor JSON Lines",
        at: .init(file: source.path, line: line),
        remedy: "It should hold an array of objects: [{\"text\": \"…\"}, …]")
    }
    column = skipped.reversed().prefix { $0 != Self.lineFeed }.count + 1
    advance()
  }

  func next() throws -> Row? {
    if let lines {
      do {
        return try lines.next()
      } catch let error as DataError where error.location?.line == 1 {
        var error = error
        error.remedy =
          "A .json file holds an array of objects, or one object on each line (JSON Lines)"
        throw error
      }
    }
    if isDone { return nil }
    var byte = try nextByte(expecting: "an object or the end of the array")
    if row > 0, byte == UInt8(ascii: ",") {
      advance()
      byte = try nextByte(expecting: "an object")
    } else if byte == UInt8(ascii: "]") {
      advance()
      isDone = true
      if let rest = try nextByteIfAny() {
        throw DataError(
          "`\(Character(Unicode.Scalar(rest)))` after the end of the array", at: location,
          remedy: "Put all rows into one array, or one on each line of a .jsonl file")
      }
      return nil
    } else if row > 0 {
      throw DataError(
        "a comma or the end of the array is missing here", at: location,
        remedy: "Rows of the array are separated by commas")
    }
    row += 1
    let start = location
    return try Row(parsing: element(), at: start)
  }

  private var location: DataError.Location {
    .init(file: source.path, row: max(row, 1), line: line, column: column)
  }

  /// The bytes of the array's next element, found by its brackets and quotes alone; the parser judges it.
  private func element() throws -> [UInt8] {
    var bytes: [UInt8] = []
    var depth = 0
    var isInString = false
    var isEscaped = false
    while true {
      if source.position == source.buffer.count, try !source.refill(at: location) {
        throw DataError(
          "the file ends inside this row", at: location,
          remedy: "It was probably cut off: get it again, or close the object and the array")
      }
      let byte = source.buffer[source.position]
      if isInString {
        if isEscaped {
          isEscaped = false
        } else if byte == UInt8(ascii: "\\") {
          isEscaped = true
        } else if byte == UInt8(ascii: "\"") {
          isInString = false
        }
      } else {
        switch byte {
        case UInt8(ascii: "\""): isInString = true
        case UInt8(ascii: "{"), UInt8(ascii: "["): depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
          if depth == 0 { return bytes }
          depth -= 1
        case UInt8(ascii: ",") where depth == 0: return bytes
        default: break
        }
      }
      bytes.append(byte)
      advance()
      if depth == 0, !isInString, byte == UInt8(ascii: "}") || byte == UInt8(ascii: "]") {
        return bytes
      }
    }
  }

  private func nextByte(expecting expected: String) throws -> UInt8 {
    if let byte = try nextByteIfAny() { return byte }
    throw DataError(
      "the file ends where \(expected) should be", at: location,
      remedy: "It was probably cut off: get it again, or close the array")
  }

  private func nextByteIfAny() throws -> UInt8? {
    while true {
      if source.position == source.buffer.count, try !source.refill(at: location) { return nil }
      let byte = source.buffer[source.position]
      guard Self.isSpace(byte) else { return byte }
      advance()
    }
  }

  private func advance() {
    let byte = source.buffer[source.position]
    source.position += 1
    if byte == Self.lineFeed {
      line += 1
      column = 1
    } else if byte & 0xC0 != 0x80 {
      column += 1
    }
  }

  private static let lineFeed: UInt8 = 0x0A

  private static func isSpace(_ byte: UInt8) -> Bool {
    byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09
  }
}
