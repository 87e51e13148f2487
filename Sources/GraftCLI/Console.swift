import Foundation
import JSON
import Logging
import Training

/// The program's streams: results on standard output, everything else on standard error.
enum Console {
  /// The last line of standard error, which a progress bar may hold. `NO_COLOR` turns colour off (no-color.org).
  static let status = StatusLine(usesColor: (ProcessInfo.processInfo.environment["NO_COLOR"] ?? "").isEmpty)

  /// Writes a line to standard error, above a progress bar if there is one.
  static func message(_ text: String) { status.print(text) }

  /// Writes a result to standard output.
  ///
  /// - Throws: `BrokenPipe` when nobody reads it any more.
  static func result(_ text: String, terminator: String = "\n") throws {
    do {
      try FileHandle.standardOutput.write(contentsOf: Data((text + terminator).utf8))
    } catch {
      throw BrokenPipe()
    }
  }

  /// Writes a value as JSON to standard output, its keys as Hugging Face's files write theirs.
  static func result(_ value: some Encodable) throws {
    try result(JSONValue.encode(value).withSnakeCaseKeys.serialized(indent: 2))
  }

  /// A logger whose messages go above the progress bar.
  static func logger(verbose: Bool) -> Logger {
    Logger(label: "graft") { _ in StatusLineLogHandler(on: status, level: verbose ? .debug : .info) }
  }
}

extension JSONValue {
  /// The value with `trainLoss` as `train_loss`, in objects of any depth.
  var withSnakeCaseKeys: JSONValue {
    switch self {
    case .object(let members):
      .object(
        .init(
          members.map { key, value in
            let words = key.map { $0.isUppercase ? "_\($0.lowercased())" : String($0) }
            return (words.joined(), value.withSnakeCaseKeys)
          }, uniquingKeysWith: { first, _ in first }))
    case .array(let elements): .array(elements.map(\.withSnakeCaseKeys))
    default: self
    }
  }
}
