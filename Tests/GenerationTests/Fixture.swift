import Formats
import Foundation
import JSON
import Torch

/// Files beside these tests, and those of the model and tokenizer tests.
enum Fixture {
  static let tests = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  static let own = tests.appending(path: "GenerationTests/Fixtures")
  static let models = tests.appending(path: "ModelsTests/Fixtures")
  static let tokenizers = tests.appending(path: "TokenizersTests/Fixtures/tokenizers")

  static func json(_ name: String) throws -> JSONValue {
    try JSONValue(parsing: Data(contentsOf: own.appending(path: name)))
  }

  /// A folder with these files, which the caller removes.
  static func folder(_ files: [String: Data]) throws -> URL {
    let url = FileManager.default.temporaryDirectory.appending(path: "graft-generation-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    for (name, data) in files { try data.write(to: url.appending(path: name)) }
    return url
  }

  /// Folders of tiny models for which transformers has generated.
  static func generatingModels() -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: models.path)) ?? []
    return names.sorted().filter { name in
      guard let expected = try? Checkpoint.open(models.appending(path: "\(name)/expected.safetensors")) else {
        return false
      }
      return expected.contains("generated.0")
    }
  }

  /// The tokens of a tiny model's fixture under `input_ids.0` and so on, or `generated.0`.
  static func tokens(_ model: String, _ key: String) throws -> [[Int32]] {
    let expected = try Checkpoint.open(models.appending(path: "\(model)/expected.safetensors"))
    var result: [[Int32]] = []
    while expected.contains("\(key).\(result.count)") {
      result.append(try expected.tensor("\(key).\(result.count)", dtype: nil).array(of: Int32.self))
    }
    return result
  }
}
