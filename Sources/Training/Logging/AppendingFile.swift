import Foundation

/// A file that grows by whole records, each handed to the system at once.
///
/// A process that dies leaves at most one torn record at the end.
struct AppendingFile {
  let path: String
  private let handle: FileHandle

  /// Opens a file for appending, and makes it and its folder first where they are missing.
  init(path: String) throws {
    self.path = path
    do {
      let url = URL(filePath: path)
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      if !FileManager.default.fileExists(atPath: path) { try Data().write(to: url) }
      handle = try FileHandle(forUpdating: url)
      try handle.seekToEnd()
    } catch {
      throw Self.error("cannot be opened", path: path, error)
    }
  }

  /// Appends one record.
  func append(_ record: Data) throws {
    do {
      try handle.write(contentsOf: record)
    } catch {
      throw Self.error("cannot be written", path: path, error)
    }
  }

  /// Everything in the file.
  func contents() throws -> Data {
    do {
      try handle.seek(toOffset: 0)
      let data = try handle.readToEnd() ?? Data()
      try handle.seekToEnd()
      return data
    } catch {
      throw Self.error("cannot be read", path: path, error)
    }
  }

  /// Cuts the file off after so many bytes.
  func truncate(to size: Int) throws {
    do {
      try handle.truncate(atOffset: UInt64(size))
      try handle.seekToEnd()
      try handle.synchronize()
    } catch {
      throw Self.error("cannot be shortened", path: path, error)
    }
  }

  /// Has the system put what was written on the disk.
  func synchronize() throws {
    do {
      try handle.synchronize()
    } catch {
      throw Self.error("cannot be written", path: path, error)
    }
  }

  private static func error(_ problem: String, path: String, _ error: any Error) -> LoggingError {
    LoggingError(
      "\(path) \(problem): \(error.localizedDescription)",
      remedy: "check that the folder may be written to and the disk has room")
  }
}
