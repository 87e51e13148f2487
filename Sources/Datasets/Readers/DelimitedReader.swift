import JSON

/// Reads CSV and TSV as RFC 4180 has it: quoted fields, doubled quotes, line breaks inside quotes.
///
/// Lines may end in LF, CRLF or CR; blank lines are skipped; the first record names the columns unless names
/// are given. A column without a name is called after its place: `column3`.
///
/// Source: https://www.rfc-editor.org/rfc/rfc4180
final class DelimitedReader: RowReader {
  enum Delimiter: UInt8 {
    case comma = 0x2C
    case tab = 0x09
  }

  private(set) var columns: [String] = []
  private(set) var adjustedRows = 0
  var replacedBytes: Int { source.replacements }

  private let source: TextSource
  private let delimiter: UInt8
  private let isRelaxed: Bool

  private var row = 0  // of the last row that was returned
  private var line = 1
  private var column = 1
  private var skipsLineFeed = false  // the last byte was the CR of a possible CRLF
  private var fields: [String] = []
  private var field: [UInt8] = []

  init(_ source: TextSource, delimiter: Delimiter, options: ReadingOptions) throws {
    self.source = source
    self.delimiter = delimiter.rawValue
    isRelaxed = options.isRelaxed
    if let names = options.columnNames {
      columns = names
    } else {
      guard try readRecord() else {
        throw DataError(
          "the file is empty", at: .init(file: source.path),
          remedy: "A table starts with a line that names its columns")
      }
      columns = fields.enumerated().map { $1.isEmpty ? "column\($0 + 1)" : $1 }
    }
    if let twice = columns.first(where: { name in columns.count { $0 == name } > 1 }) {
      throw DataError(
        "two columns are called `\(twice)`", at: .init(file: source.path, line: 1),
        remedy: "Rename one of them in the file's first line")
    }
  }

  func next() throws -> Row? {
    let started = (line: line, row: row + 1)
    guard try readRecord() else { return nil }
    row += 1
    let location = DataError.Location(file: source.path, row: row, line: recordLine)
    if fields.count != columns.count {
      guard isRelaxed else {
        throw DataError(
          "\(fields.count) \(fields.count == 1 ? "field" : "fields") where the header has"
            + " \(columns.count) (\(Row.list(columns)))",
          at: .init(file: source.path, row: started.row, line: recordLine),
          remedy:
            "Put quotes around fields that contain the delimiter or a line break, or read with --relaxed")
      }
      adjustedRows += 1
      while fields.count < columns.count { fields.append("") }
      fields.removeSubrange(columns.count...)
    }
    return Row(columns: columns, values: fields.map { .string($0) }, location: location)
  }

  private var recordLine = 1  // where the record that was read last starts

  private var location: DataError.Location {
    .init(file: source.path, row: columns.isEmpty ? nil : row + 1, line: line, column: column)
  }

  private enum State { case fieldStart, plain, quoted, quoteInQuoted }

  /// Reads a record into `fields`; `false` at the end of the file.
  private func readRecord() throws -> Bool {
    fields.removeAll(keepingCapacity: true)
    field.removeAll(keepingCapacity: true)
    var state = State.fieldStart
    var opened = location  // of the quoted field that is being read
    recordLine = line

    while true {
      if source.position == source.buffer.count, try !source.refill(at: location) {
        switch state {
        case .quoted:
          throw DataError(
            "the quote that opens this field is never closed", at: opened,
            remedy: "Close it, and double each quote that is part of the text")
        case .fieldStart where fields.isEmpty:
          return false
        default:
          endField()
          return true
        }
      }

      // Whatever has no meaning in this state goes over in one piece.
      if state == .plain || state == .quoted {
        appendRun(isQuoted: state == .quoted)
        if source.position == source.buffer.count { continue }
      }

      let byte = source.buffer[source.position]
      if skipsLineFeed {
        skipsLineFeed = false
        if byte == Self.lineFeed {
          source.position += 1
          continue
        }
      }

      switch (state, byte) {
      case (.quoted, Self.quote):
        advance(byte)
        state = .quoteInQuoted
      case (.quoted, _):
        // A line feed inside the field.
        field.append(byte)
        advance(byte)
        startLine()
      case (.fieldStart, Self.quote):
        opened = location
        advance(byte)
        state = .quoted
      case (.quoteInQuoted, Self.quote):
        field.append(byte)
        advance(byte)
        state = .quoted
      case (_, delimiter):
        endField()
        advance(byte)
        state = .fieldStart
      case (_, Self.lineFeed), (_, Self.carriageReturn):
        advance(byte)
        skipsLineFeed = byte == Self.carriageReturn
        startLine()
        if state == .fieldStart && fields.isEmpty {
          recordLine = line  // a blank line
          continue
        }
        endField()
        return true
      case (.fieldStart, _):
        state = .plain
      case (.plain, _):
        // A quote: RFC 4180 has none inside a field that does not start with one, but real files do, and
        // everybody reads it as the character it is.
        field.append(byte)
        advance(byte)
      case (.quoteInQuoted, _):
        guard isRelaxed else {
          throw DataError(
            "text after the quote that closes this field", at: location,
            remedy: "Double a quote that is part of the text, or read with --relaxed")
        }
        state = .plain  // as Python's csv does: `"a"b` is ab
      }
    }
  }

  /// Copies bytes up to the next one that means something.
  private func appendRun(isQuoted: Bool) {
    let (start, delimiter) = (source.position, delimiter)
    var scalars = 0
    let end = source.buffer.withUnsafeBufferPointer { bytes in
      var position = start
      while position < bytes.count {
        let byte = bytes[position]
        if byte == Self.quote || byte == Self.lineFeed { break }
        if !isQuoted && (byte == delimiter || byte == Self.carriageReturn) { break }
        if byte & 0xC0 != 0x80 { scalars += 1 }
        position += 1
      }
      field.append(contentsOf: UnsafeBufferPointer(rebasing: bytes[start..<position]))
      return position
    }
    source.position = end
    column += scalars
  }

  private func advance(_ byte: UInt8) {
    source.position += 1
    if byte & 0xC0 != 0x80 { column += 1 }
  }

  private func startLine() {
    line += 1
    column = 1
  }

  private func endField() {
    fields.append(String(decoding: field, as: UTF8.self))
    field.removeAll(keepingCapacity: true)
  }

  private static let quote: UInt8 = 0x22
  private static let lineFeed: UInt8 = 0x0A
  private static let carriageReturn: UInt8 = 0x0D
}
