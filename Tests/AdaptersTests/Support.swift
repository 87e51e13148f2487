import Adapters
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

/// The adapters that `make_fixtures.py` had PEFT save: every folder with a configuration.
let adapterFixtures: [String] = {
  let folders = (try? FileManager.default.contentsOfDirectory(atPath: fixture("").path)) ?? []
  return folders.filter {
    FileManager.default.fileExists(atPath: fixture($0).appendingPathComponent("adapter_config.json").path)
  }.sorted()
}()

/// The folder of a base model of ModelsTests.
func baseFolder(_ name: String) -> URL {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("ModelsTests/Fixtures/\(name)")
}

/// A base model of ModelsTests, in fp32.
func base(_ name: String) throws -> any CausalLanguageModel {
  try AutoModelForCausalLM.fromPretrained(baseFolder(name).path, dtype: .float32, device: testDevice)
}

/// A fixture with what PEFT computed from it.
struct AdapterFixture {
  let name: String
  let facts: JSONValue
  let expected: SafetensorsFile

  init(_ name: String) throws {
    self.name = name
    facts = try JSONValue(parsing: Data(contentsOf: fixture(name).appendingPathComponent("expected.json")))
    expected = try SafetensorsFile(fixture(name).appendingPathComponent("expected.safetensors"))
  }

  var path: String { fixture(name).path }
  var baseName: String { facts["base"]?.stringValue ?? "" }
  var sequences: [[Int32]] {
    get throws { try (0..<2).map { try expected.tensor("input_ids.\($0)").array(of: Int32.self) } }
  }
  var configuration: JSONValue {
    get throws { try readJSON(fixture(name).appendingPathComponent("adapter_config.json")) }
  }

  /// The base with the adapter on it.
  func load() throws -> PEFTModel {
    let model = try PEFTModel(base(baseName))
    try model.loadAdapter(path)
    return model
  }

  /// The largest difference from what PEFT computed under `key`, relative to its largest logit.
  func error(_ model: any PretrainedModel, _ key: String) throws -> Double {
    try withoutGradient {
      let input = try ModelInput(sequences, device: testDevice)
      let logits = try model.logits(input)
      return try input.layout.sequences.enumerated().map { index, tokens in
        try relativeError(logits.slice(tokens), expected.tensor("\(key).\(index)"))
      }.max() ?? .infinity
    }
  }

  /// All logits, to be compared with others of the same computation.
  func logits(_ model: any PretrainedModel) throws -> [Float] {
    try withoutGradient { try model.logits(ModelInput(sequences, device: testDevice)).floats() }
  }
}

func readJSON(_ url: URL) throws -> JSONValue { try JSONValue(parsing: Data(contentsOf: url)) }

/// The error of `body`, which must hold all `parts`.
func expectError(
  _ parts: String..., location: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("nothing was thrown", sourceLocation: location)
  } catch {
    #expect(
      error is AdapterError || error is ModelError || error is FormatError || error is TorchError,
      "\(type(of: error)): \(error)", sourceLocation: location)
    for part in parts {
      #expect("\(error)".contains(part), "\(error) lacks \(part)", sourceLocation: location)
    }
  }
}

/// The mean loss of every next token, for gradients.
func loss(_ model: any PretrainedModel, _ sequences: [[Int32]]) throws -> Tensor {
  let input = try ModelInput(sequences, device: testDevice)
  let supervision = Supervision(
    labels: sequences.flatMap { $0 }, offsets: input.layout.offsets, ignoreIndex: -100)
  let sum = try causalLossSum(
    hidden: model.hiddenStates(input), supervision: supervision, head: model.head)
  return try sum / Double(supervision.count)
}

/// One step down the gradient, as long for every method: the largest element of each parameter moves by `distance`.
///
/// - Returns: the loss before the step.
@discardableResult
func descend(_ model: PEFTModel, _ sequences: [[Int32]], by distance: Double) throws -> Double {
  let loss = try loss(model.base, sequences)
  try loss.backward()
  // A layer that AdaLoRA took all ranks from has parameters without elements.
  for (key, parameter) in model.trainableParameters where parameter.count > 0 {
    let gradient = try #require(parameter.value.gradient, "\(key)")
    let largest = try gradient.absolute().max().item()
    if largest > 0 { try parameter.value.addInPlace(gradient, scale: -distance / largest) }
    try parameter.value.setGradient(nil)
  }
  return try loss.item()
}
