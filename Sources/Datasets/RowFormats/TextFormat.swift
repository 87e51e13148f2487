/// Text for language modelling in the column `text`, or in the one that the user names. All of it is supervised.
public struct TextFormat: RowFormat {
  public static let name = "text"
  public static let columns = "text, or the named text column"

  public static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool {
    columns.contains(options.textColumn ?? "text")
  }

  private let column: String

  public init(options: RowFormatOptions) { column = options.textColumn ?? "text" }

  public func sample(from row: Row) throws -> Sample { .text(try row.requiredText(column)) }
}
