/// An adapter cannot be made, loaded, merged or saved.
///
/// The description says what is wrong, where, and what to do about it.
public struct AdapterError: Error, CustomStringConvertible, Sendable {
  public let message: String

  public init(_ message: String) {
    self.message = message
  }

  public var description: String { message }
}
