/// Why a JSON document could not be read, or a value not be turned into a Swift type.
public struct JSONError: Error, Sendable, Hashable, CustomStringConvertible {
  /// Where in the text, both counted from 1; columns count Unicode scalars.
  public struct Location: Sendable, Hashable {
    public var line: Int
    public var column: Int
    /// The byte's position from the start of the document.
    public var byteOffset: Int

    public init(line: Int, column: Int, byteOffset: Int) {
      self.line = line
      self.column = column
      self.byteOffset = byteOffset
    }
  }

  /// What is wrong and what was expected.
  public var message: String
  /// The place in the text; `nil` when a value was decoded or encoded rather than text parsed.
  public var location: Location?
  /// The keys and indices that lead to the value, as `layers[3].name`; `nil` for errors in the text.
  public var path: String?

  public init(_ message: String, location: Location? = nil, path: String? = nil) {
    self.message = message
    self.location = location
    self.path = path
  }

  public var description: String {
    if let location { return "line \(location.line), column \(location.column): \(message)" }
    if let path { return "`\(path)`: \(message)" }
    return message
  }
}
