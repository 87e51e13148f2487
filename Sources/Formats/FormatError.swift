import Files
import Foundation

/// What is wrong with a file, in which file and tensor, and what to do about it.
///
/// Every failure of this module is one of these. The description is one paragraph that can be shown as it is: names that
/// come from the file are shortened and stripped of control characters.
public struct FormatError: Error, Hashable, Sendable {
  /// The kind of failure, for code that has to tell them apart.
  public enum Code: Hashable, Sendable {
    /// There is no file or folder at this place.
    case notFound
    /// The operating system refused to open, read, write or rename; `errno` says why.
    case inputOutput(errno: Int32)
    /// The file contradicts itself or its format: truncated, overlapping, lying about a size.
    case malformed
    /// The file is well formed, but uses something that cannot be read here.
    case unsupported
    /// The file holds something that must not be followed: code, or a path that leaves its folder.
    case unsafe
    /// A tensor or metadata key that was asked for does not exist.
    case missing
    /// What the caller asked for cannot be done with this file: a wrong type, a buffer of the wrong size.
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
}

extension FormatError: CustomStringConvertible, LocalizedError {
  public var description: String { "\(path): \(problem). \(remedy)." }
  public var errorDescription: String? { description }
}

extension FormatError {
  /// The remedy for a file that was damaged on its way here.
  static let downloadAgain = "The file is damaged or incomplete: download or export it again"

  static func malformed(_ url: URL, _ problem: String, remedy: String = downloadAgain) -> FormatError {
    FormatError(.malformed, in: url, problem, remedy: remedy)
  }

  /// The failure of a system call, from the `errno` that it left.
  static func system(_ number: Int32, _ url: URL, _ action: String) -> FormatError {
    let error = FileError(errno: number, in: url, action)
    return FormatError(
      number == ENOENT ? .notFound : .inputOutput(errno: number), in: url, error.problem,
      remedy: error.remedy)
  }
}

/// `name` between backticks, fit for a message: control characters escaped, at most 100 characters.
func quoted(_ name: some StringProtocol) -> String {
  var text = "`"
  var count = 0
  for scalar in name.unicodeScalars {
    if count == 100 {
      text += "…"
      break
    }
    count += 1
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator:
      text += "\\u{\(String(scalar.value, radix: 16))}"
    default: text.unicodeScalars.append(scalar)
    }
  }
  return text + "`"
}
