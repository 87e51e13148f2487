import Logging

/// Sends log messages to standard error, above the progress bar.
///
/// Information is a plain line; warnings and errors name their level.
public struct StatusLineLogHandler: LogHandler {
  public var metadata: Logger.Metadata = [:]
  public var logLevel: Logger.Level

  private let status: StatusLine

  public init(on status: StatusLine, level: Logger.Level = .info) {
    self.status = status
    logLevel = level
  }

  public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  public func log(event: LogEvent) {
    let merged = metadata.merging(event.metadata ?? [:]) { $1 }
    let details = merged.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }.joined(separator: " ")
    status.print(prefix(event.level) + "\(event.message)" + (details.isEmpty ? "" : " [\(details)]"))
  }

  private func prefix(_ level: Logger.Level) -> String {
    let (word, color) =
      switch level {
      case .trace, .debug: ("debug: ", 2)
      case .info, .notice: ("", 0)
      case .warning: ("warning: ", 33)
      case .error, .critical: ("error: ", 31)
      }
    return status.usesColor && !word.isEmpty ? "\u{1B}[\(color)m\(word)\u{1B}[0m" : word
  }
}
