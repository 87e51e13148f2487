import Datasets
import Foundation
import JSON

/// Files beside the script that made them.
enum Fixture {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("Fixtures")

  static func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  static func json(_ name: String) throws -> JSONValue {
    try JSONValue(parsing: Data(contentsOf: folder.appendingPathComponent(name)))
  }
}

/// A folder that goes with the test that made it.
final class Scratch {
  let folder: URL

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent("graft-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  func file(_ name: String, _ text: String) throws -> String { try file(name, Array(text.utf8)) }

  func file(_ name: String, _ bytes: [UInt8]) throws -> String {
    try Data(bytes).write(to: folder.appendingPathComponent(name))
    return path(name)
  }

  func text(_ name: String) throws -> String {
    String(decoding: try Data(contentsOf: folder.appendingPathComponent(name)), as: UTF8.self)
  }

  var names: [String] { (try? FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()) ?? [] }
}

extension JSONValue {
  /// The strings of an array.
  var strings: [String]? { arrayValue.map { $0.compactMap(\.stringValue) } }
  /// The numbers of an array.
  var doubles: [Double]? { arrayValue.map { $0.compactMap(\.doubleValue) } }
}

extension Row {
  /// A row as a JSON file gives it.
  init(_ members: KeyValuePairs<String, JSONValue>) {
    self.init(
      columns: members.map(\.key), values: members.map(\.value),
      location: .init(file: "test.jsonl", row: 1, line: 1))
  }
}

/// The error that a call has to throw.
func dataError(_ body: () throws -> Void) -> DataError? {
  do {
    try body()
    return nil
  } catch {
    return error as? DataError
  }
}
