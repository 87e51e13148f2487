/// Text cannot be generated from what was given.
///
/// The description says what is wrong, where, and what to do about it.
public struct GenerationError: Error, CustomStringConvertible, Sendable {
  public let message: String

  public init(_ message: String) {
    self.message = message
  }

  public var description: String { message }
}
