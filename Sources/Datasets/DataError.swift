/// What is wrong with a data file or with how it is to be used: what, where, and the remedy.
public struct DataError: Error, Sendable, Hashable, CustomStringConvertible {
  /// A place in a data file. Lines, columns and rows are counted from 1; columns count Unicode
  /// scalars; a row is a record, which may span several lines. The header is not a row.
  public struct Location: Sendable, Hashable, CustomStringConvertible {
    public var file: String
    public var row: Int?
    public var line: Int?
    public var column: Int?

    public init(file: String, row: Int? = nil, line: Int? = nil, column: Int? = nil) {
      self.file = file
      self.row = row
      self.line = line
      self.column = column
    }

    public var description: String {
      var text = file
      if let line { text += ", line \(line)" }
      if let column { text += ", column \(column)" }
      if let row { text += " (row \(row))" }
      return text
    }
  }

  /// What is wrong, as a sentence without its full stop.
  public var message: String
  public var location: Location?
  /// What to do about it, as a sentence without its full stop.
  public var remedy: String?

  public init(_ message: String, at location: Location? = nil, remedy: String? = nil) {
    self.message = message
    self.location = location
    self.remedy = remedy
  }

  public var description: String {
    var text = location.map { "\($0): \(message)." } ?? "\(message)."
    if let remedy { text += " \(remedy)." }
    return text
  }
}
