import JSON

/// Reads plain text: each unit is a row with the one column `text`.
final class TextReader: RowReader {
  var replacedBytes: Int { lines.source.replacements }

  private var lines: LineScanner
  private let unit: ReadingOptions.TextUnit
  private var row = 0

  init(_ source: TextSource, unit: ReadingOptions.TextUnit) {
    lines = LineScanner(source)
    self.unit = unit
  }

  func next() throws -> Row? {
    var text: [UInt8] = []
    var firstLine = 0
    while let bytes = try lines.next(row: row + 1) {
      let isBlank = bytes.allSatisfy { $0 == 0x20 || $0 == 0x09 }
      if firstLine == 0 {
        if isBlank { continue }
        firstLine = lines.line
        text = bytes
      } else if unit == .paragraph && isBlank {
        break
      } else {
        text.append(0x0A)
        text.append(contentsOf: bytes)
      }
      if unit == .line { break }
    }
    guard firstLine > 0 else { return nil }
    row += 1
    return Row(
      columns: ["text"], values: [.string(String(decoding: text, as: UTF8.self))],
      location: .init(file: lines.source.path, row: row, line: firstLine))
  }
}
