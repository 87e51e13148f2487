import Foundation

/// Where this user's programs keep what they can make again.
enum CacheFolder {
  /// Rows as tokens: `$XDG_CACHE_HOME/graft/tokens`, or the same under `~/.cache`. It may be deleted at any time.
  static var tokens: URL {
    // The XDG specification: a relative path is invalid and to be ignored.
    let named = ProcessInfo.processInfo.environment["XDG_CACHE_HOME"].flatMap { $0.hasPrefix("/") ? $0 : nil }
    let base =
      named.map { URL(fileURLWithPath: $0, isDirectory: true) }
      ?? FileManager.default.homeDirectoryForCurrentUser.appendingPathComponent(".cache", isDirectory: true)
    return base.appendingPathComponent("graft/tokens", isDirectory: true)
  }
}
