/// What is wrong with a configuration, where it stands, and what to write instead.
///
/// Its description is one paragraph: "config.yaml, line 3: `epochs` is not a configuration key; write
/// `num_train_epochs`."
public struct ConfigurationError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What is wrong, without a full stop.
  public var problem: String
  /// Where the value was written; nil when it was set in a program.
  public var location: ConfigurationLocation?
  /// What to do about it, without a full stop.
  public var remedy: String

  /// The key it is about, by which a reader of a file finds the location of what a program checked.
  public var key: String?

  public init(
    _ problem: String, key: String? = nil, at location: ConfigurationLocation? = nil, remedy: String
  ) {
    self.problem = problem
    self.key = key
    self.location = location
    self.remedy = remedy
  }

  public var description: String {
    let place = location.map { "\($0): " } ?? ""
    return "\(place)\(problem); \(remedy)."
  }
}

/// The place a configuration value was written at.
public enum ConfigurationLocation: Hashable, Sendable, CustomStringConvertible {
  /// A line of a file; line 0 stands for the file as a whole.
  case file(String, line: Int)
  /// An override of the command line, as the user wrote it: `--set learning_rate=1e-4`.
  case override(String)

  public var description: String {
    switch self {
    case .file(let name, line: 0): name
    case .file(let name, let line): "\(name), line \(line)"
    case .override(let text): "--set \(text)"
    }
  }
}
