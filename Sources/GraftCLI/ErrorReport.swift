import ArgumentParser
import Foundation
import Training

/// How a command ends that did not succeed.
enum ErrorReport {
  /// Prints an error and ends the process with its exit code.
  static func exit(for error: any Error) -> Never {
    if error is BrokenPipe { Foundation.exit(128 + SIGPIPE) }
    if let interrupted = error as? Interrupted {
      Console.message(interrupted.message)
      Foundation.exit(Interruption.exitCode)
    }
    if error is CancellationError {
      Console.status.end()
      Console.message("Stopped; nothing was written.")
      Foundation.exit(Interruption.exitCode)
    }
    // What the argument parser throws, it also prints: usage, help and versions.
    let code = GraftCommand.exitCode(for: error)
    if code == .success || code == .validationFailure || error is ExitCode {
      GraftCommand.exit(withError: error)
    }
    Console.status.end()
    Console.message("error: " + paragraph(error))
    Foundation.exit(code.rawValue)
  }

  /// An error in one paragraph.
  static func paragraph(_ error: any Error) -> String {
    // Foundation's errors describe themselves as a dump of their fields.
    let text = error is CocoaError || error is POSIXError ? error.localizedDescription : "\(error)"
    return text.split(whereSeparator: \.isNewline).map { $0.trimmingCharacters(in: .whitespaces) }
      .joined(separator: " ")
  }
}

/// Something that a command found wrong itself, in the words of the library's errors.
struct CommandError: Error, CustomStringConvertible {
  /// What is wrong and where, without a full stop.
  let problem: String
  /// What to do about it, without a full stop.
  let remedy: String

  init(_ problem: String, remedy: String) {
    self.problem = problem
    self.remedy = remedy
  }

  var description: String { "\(problem); \(remedy)." }
}

/// Ctrl-C ended the command in an orderly way.
struct Interrupted: Error {
  /// What was saved and how to go on.
  let message: String
}

/// Nobody reads standard output any more.
struct BrokenPipe: Error {}
