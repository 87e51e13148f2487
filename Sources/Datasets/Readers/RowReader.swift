/// Reads a data file row by row, never all of it at once.
public protocol RowReader: AnyObject {
  /// The next row; `nil` at the end.
  ///
  /// - Throws: ``DataError`` that names file, line and column.
  func next() throws -> Row?
  /// Bytes that were replaced by U+FFFD so far, when ``ReadingOptions/invalidBytes`` says so.
  var replacedBytes: Int { get }
  /// Rows whose fields did not fit the header and were made to fit, when ``ReadingOptions/isRelaxed``.
  var adjustedRows: Int { get }
}

extension RowReader {
  public var adjustedRows: Int { 0 }

  /// All rows that are left. For small files.
  public func rows() throws -> [Row] {
    var rows: [Row] = []
    while let row = try next() { rows.append(row) }
    return rows
  }
}
