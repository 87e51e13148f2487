/// Why a tokenizer could not be loaded or written: what is wrong, where, and what to do about it.
public struct TokenizerError: Error, Equatable, Sendable, CustomStringConvertible {
  /// What kind of mistake it is, for programs that react to it.
  public enum Code: String, Sendable {
    /// A file that a tokenizer needs is missing or cannot be read or written.
    case file
    /// A file is there, but its contents contradict the format.
    case malformed
    /// A component type, an option or a pattern that this package does not implement.
    case unsupported
  }

  public let code: Code
  /// One paragraph: what, where, remedy.
  public let message: String

  public init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { message }
}
