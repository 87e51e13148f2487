import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

/// A fixture beside this file.
func fixture(_ name: String) -> URL {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("Fixtures").appendingPathComponent(name)
}

/// The models that `make_fixtures.py` made: every folder with a configuration.
let modelFixtures: [String] = {
  let folders = (try? FileManager.default.contentsOfDirectory(atPath: fixture("").path)) ?? []
  return folders.filter {
    FileManager.default.fileExists(atPath: fixture($0).appendingPathComponent("config.json").path)
  }.sorted()
}()

/// Gives `body` a copy of a fixture that it may damage.
func withCopy<R>(of name: String, _ body: (URL) throws -> R) throws -> R {
  try withTemporaryFolder { folder in
    let copy = folder.appendingPathComponent(fixture(name).lastPathComponent)
    try FileManager.default.copyItem(at: fixture(name), to: copy)
    return try body(copy)
  }
}

/// Changes members of the `config.json` in `folder`; nil removes one.
func editConfiguration(_ folder: URL, _ changes: [String: JSONValue?]) throws {
  let file = folder.appendingPathComponent("config.json")
  var json = try JSONValue(parsing: Data(contentsOf: file))
  for (key, value) in changes { json[key] = value }
  try Data(json.serialized().utf8).write(to: file)
}

func load(_ name: String, dtype: DType? = .float32) throws -> any CausalLanguageModel {
  try AutoModelForCausalLM.fromPretrained(fixture(name).path, dtype: dtype, device: testDevice)
}

/// What transformers computed, with the sequences that it computed it from.
struct Expectation {
  let file: SafetensorsFile

  init(_ name: String) throws {
    file = try SafetensorsFile(fixture(name).appendingPathComponent("expected.safetensors"))
  }

  /// How many sequences were run.
  var count: Int { file.tensorNames.filter { $0.hasPrefix("input_ids.") }.count }
  func tokens(_ index: Int) throws -> [Int32] { try file.tensor("input_ids.\(index)").array(of: Int32.self) }
  func labels(_ index: Int) throws -> [Int32] { try file.tensor("labels.\(index)").array(of: Int32.self) }
  func logits(_ index: Int) throws -> Tensor { try file.tensor("logits.\(index)") }
  var sequences: [[Int32]] { get throws { try (0..<count).map(tokens) } }
}

/// The message that `body` throws, which must hold all `parts`.
func expectError(
  _ parts: String..., location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("nothing was thrown", sourceLocation: location)
  } catch {
    #expect(
      error is ModelError || error is FormatError || error is TorchError, "\(type(of: error)): \(error)",
      sourceLocation: location)
    for part in parts {
      #expect("\(error)".contains(part), "\(error) lacks \(part)", sourceLocation: location)
    }
  }
}
