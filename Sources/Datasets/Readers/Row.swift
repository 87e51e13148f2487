import JSON

/// One record of a data file: named values in the file's order.
public struct Row: Sendable, Hashable {
  /// The names; rows of a table share them.
  public var columns: [String]
  /// One value for each of ``columns``. Tables give strings, JSON anything.
  public var values: [JSONValue]
  /// Where the row starts.
  public var location: DataError.Location

  public init(columns: [String], values: [JSONValue], location: DataError.Location) {
    precondition(columns.count == values.count, "a row has one value for each column")
    self.columns = columns
    self.values = values
    self.location = location
  }

  /// The value of a column; `nil` when the row has no such column.
  public subscript(column: String) -> JSONValue? {
    columns.firstIndex(of: column).map { values[$0] }
  }

  /// The text of a column: a string as it is, a number as it is written, a missing column or null as
  /// nothing.
  ///
  /// - Throws: ``DataError`` when the value is an array or an object.
  public func text(_ column: String) throws -> String? {
    switch self[column] {
    case nil, .null: return nil
    case .string(let text): return text
    case .integer(let number): return String(number)
    case .bool(let flag): return flag ? "true" : "false"
    case .number(let number)?: return JSONValue.number(number).serialized()
    case let value?:
      throw DataError(
        "`\(column)` is \(value.kind), but text is needed", at: location,
        remedy: "Name a column that holds text, or use the row format whose columns hold messages")
    }
  }

  /// The text of a column that must be there.
  public func requiredText(_ column: String) throws -> String {
    if let text = try text(column) { return text }
    throw DataError(
      columns.contains(column) ? "`\(column)` is null" : "there is no column `\(column)`", at: location,
      remedy: "The row has \(Self.list(columns))")
  }

  static func list(_ names: some Sequence<String>) -> String {
    names.map { "`\($0)`" }.joined(separator: ", ")
  }
}
