import Foundation

/// A file or folder that cannot be opened, read, written or put in its place: which one, why, and what to do about it.
public struct FileError: Error, Hashable, Sendable {
  /// The kind of failure, for code that has to tell them apart.
  public enum Code: Hashable, Sendable {
    /// There is no file or folder at this place.
    case notFound
    /// The operating system refused; `errno` says why.
    case inputOutput(errno: Int32)
    /// Something of another kind is there: a folder where a file is to be, or the other way round.
    case mismatch
  }

  public let code: Code
  /// The file or folder that the error is about.
  public let path: String
  /// What is wrong, without the file's name and without a final full stop.
  public let problem: String
  /// What to do about it, one sentence without a final full stop.
  public let remedy: String

  public init(_ code: Code, in url: URL, _ problem: String, remedy: String) {
    self.code = code
    self.path = url.path
    self.problem = problem
    self.remedy = remedy
  }

  /// The failure of a system call, from the `errno` that it left.
  ///
  /// - Parameter action: what was tried, as the end of "cannot …".
  public init(errno number: Int32, in url: URL, _ action: String) {
    let reason = String(cString: strerror(number))
    let remedy =
      switch number {
      case ENOENT: "Check the path"
      case EACCES, EPERM: "Check the permissions of the file and its folder"
      case ENOSPC, EDQUOT: "Free some space or choose another folder; nothing was overwritten"
      case EFBIG: "Raise the limit on file sizes (`ulimit -f`) or use smaller shards; nothing was overwritten"
      case EROFS: "Choose a folder that can be written"
      case EMFILE, ENFILE: "Raise the limit on open files (`ulimit -n`)"
      case ENOMEM: "The address space is exhausted: raise `ulimit -v` or close other files"
      default: "Check the disk and the path, then try again"
      }
    self.init(
      number == ENOENT ? .notFound : .inputOutput(errno: number), in: url, "cannot \(action): \(reason)",
      remedy: remedy)
  }
}

extension FileError: CustomStringConvertible, LocalizedError {
  public var description: String { "\(path): \(problem). \(remedy)." }
  public var errorDescription: String? { description }
}
