import Foundation
import JSON

/// Reads JSON Lines: an object on each line; blank lines are skipped.
///
/// Source: https://jsonlines.org
final class JSONLinesReader: RowReader {
  var replacedBytes: Int { lines.source.replacements }

  private var lines: LineScanner
  private var row = 0

  init(_ source: TextSource) { lines = LineScanner(source) }

  func next() throws -> Row? {
    while let bytes = try lines.next(row: row + 1) {
      if bytes.allSatisfy({ $0 == 0x20 || $0 == 0x09 }) { continue }
      row += 1
      return try Row(
        parsing: bytes, at: .init(file: lines.source.path, row: row, line: lines.line, column: 1))
    }
    return nil
  }
}

extension Row {
  /// A row from the JSON text of an object.
  ///
  /// - Parameter location: where the text starts; it becomes the row's, without the column.
  init(parsing bytes: [UInt8], at location: DataError.Location) throws {
    let value: JSONValue
    do {
      value = try JSONValue(parsing: Data(bytes))
    } catch {
      var place = location
      if let found = error.location {
        place.column = found.line == 1 ? (location.column ?? 1) + found.column - 1 : found.column
        place.line = location.line.map { $0 + found.line - 1 }
      }
      throw DataError(
        error.message, at: place, remedy: "Each row has to be one JSON object, such as {\"text\": \"…\"}")
    }
    guard case .object(let members) = value else {
      throw DataError(
        "the row is \(value.kind), not an object", at: location,
        remedy: "Each row has to be one JSON object, such as {\"text\": \"…\"}")
    }
    var place = location
    place.column = nil
    self.init(columns: Array(members.keys), values: Array(members.values), location: place)
  }
}
