/// An adapter cannot be made, loaded, merged or saved.
///
/// The description says what is wrong, where, and what to do about it.
public struct AdapterError: Error, CustomStringConvertible, Sendable {
  public let message: String
  /// The option whose value it is about, if it is about one.
  public let option: InvalidOption?

  /// An option with a value that cannot be used.
  public struct InvalidOption: Sendable, Hashable {
    public let name: String
    /// What is wrong with the value: "is 0".
    public let problem: String
    /// What to do about it: "write 1 or more".
    public let remedy: String
  }

  public init(_ message: String) {
    self.message = message
    option = nil
  }

  /// - Parameter source: where the option was given.
  public init(option name: String, in source: String, _ problem: String, remedy: String) {
    message = "`\(name)` in \(source) \(problem); \(remedy)."
    option = InvalidOption(name: name, problem: problem, remedy: remedy)
  }

  public var description: String { message }
}
