import Adapters
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

/// Classifiers of transformers and adapters of PEFT on them, see Fixtures/make_classification.py.
struct ClassificationFixture {
  let name: String
  let folder: URL
  let facts: JSONValue
  let expected: SafetensorsFile

  static let directory = Fixture.directory.appending(path: "classification")

  /// The adapters.
  static let names = folders { !$0.hasPrefix("base-") }
  /// Those with a training.
  static let trained = names.filter {
    FileManager.default.fileExists(atPath: directory.appending(path: "\($0)/training.json").path)
  }
  /// Those whose method changes weights.
  static let mergeable = names.filter { !$0.hasPrefix("p") }
  /// Whole models.
  static let bases = folders { $0.hasPrefix("base-") }

  private static func folders(_ isWanted: (String) -> Bool) -> [String] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    return names.filter { !$0.contains(".") && isWanted($0) }.sorted()
  }

  init(_ name: String) throws {
    self.name = name
    folder = Self.directory.appending(path: name)
    let file = folder.appending(path: "expected.json")
    facts =
      try FileManager.default.fileExists(atPath: file.path) ? JSONValue(parsing: Data(contentsOf: file)) : [:]
    expected = try SafetensorsFile(folder.appending(path: "expected.safetensors"))
  }

  var path: String { folder.path(percentEncoded: false) }
  var baseName: String { facts["base"]?.stringValue ?? "" }

  var labels: ClassificationLabels {
    get throws {
      ClassificationLabels(
        count: try #require(facts["num_labels"]?.intValue),
        problemType: .init(rawValue: facts["problem_type"]?.stringValue ?? ""))
    }
  }

  /// The base with a new head for the fixture's labels.
  func base(seed: UInt64 = 42) throws -> any SequenceClassificationModel {
    try AutoModelForSequenceClassification.fromPretrained(
      PretrainedSource(tinyBase(baseName)), labels: labels, dtype: .float32, device: testDevice, seed: seed)
  }

  func load() throws -> PEFTModel {
    try AutoPEFTModelForSequenceClassification.fromPretrained(
      path, baseModel: tinyBase(baseName), dtype: .float32, device: testDevice)
  }

  var input: ModelInput {
    get throws {
      let count = expected.tensorNames.count { $0.hasPrefix("input_ids.") }
      return try ModelInput(
        (0..<count).map { try expected.tensor("input_ids.\($0)").array(of: Int32.self) }, device: testDevice)
    }
  }

  /// The largest difference from transformers' logits, relative to its largest.
  func error(_ model: any PretrainedModel, _ key: String = "logits") throws -> Double {
    try withoutGradient {
      let found = try model.logits(input)
      let wanted = try Tensor.stacked((0..<found.size(0)).map { try expected.tensor("\(key).\($0)") })
      return try relativeError(found, wanted)
    }
  }
}

@Suite("Sequence classification")
struct ClassifierTests {
  /// fp32 sums in another order, over two layers.
  private let tolerance = 1e-5

  @Test("the logits of a classifier are transformers'", arguments: ClassificationFixture.bases)
  func base(_ name: String) throws {
    let fixture = try ClassificationFixture(name)
    let model = try AutoModelForSequenceClassification.fromPretrained(fixture.path, device: testDevice)
    #expect(try fixture.error(model) < tolerance)
    #expect(!model.hasNewHead)
    let (names, problem): ([String], ClassificationLabels.ProblemType) =
      name == "base-llama" ? (["no", "yes"], .singleLabel) : (["politics", "sport", "weather"], .multiLabel)
    #expect(model.labels == ClassificationLabels(names: names, problemType: problem))
  }

  @Test("a saved classifier is the same when it is loaded", arguments: ClassificationFixture.bases)
  func saved(_ name: String) throws {
    let fixture = try ClassificationFixture(name)
    let model = try AutoModelForSequenceClassification.fromPretrained(fixture.path, device: testDevice)
    let folder = try TemporaryFolder()
    try model.savePretrained(to: folder.url)
    let again = try AutoModel.fromPretrained(PretrainedSource(folder.path("")), device: testDevice)
    #expect((again as? any SequenceClassificationModel)?.labels == model.labels)
    #expect(again.typeName == model.typeName)
    #expect(try fixture.error(again) < tolerance)
  }

  @Test("a new head is the one that transformers makes from the same seed")
  func newHead() throws {
    let fixture = try ClassificationFixture("lora-llama")
    let wanted = try SafetensorsFile(ClassificationFixture.directory.appending(path: "new-head.safetensors"))
    let before = try RandomState.capture()
    let model = try fixture.base(seed: 7)
    #expect(try RandomState.capture() == before)
    #expect(model.hasNewHead)
    #expect(try model.head.weight.dense().floats() == wanted.tensor("score.weight").floats())
    #expect(try fixture.base(seed: 8).head.weight.dense().floats() != wanted.tensor("score.weight").floats())
  }

  @Test("an adapter that PEFT saved gives PEFT's logits", arguments: ClassificationFixture.names)
  func loaded(_ name: String) throws {
    let fixture = try ClassificationFixture(name)
    let model = try fixture.load()
    #expect(try fixture.error(model.base) < tolerance)
    // The head is the adapter's: without it the base has another.
    #expect(try model.withAdaptersDisabled { try fixture.error(model.base) } > 1e-2)
    #expect(try fixture.error(model.base) < tolerance)
  }

  @Test("merging takes the head along", arguments: ClassificationFixture.mergeable)
  func merged(_ name: String) throws {
    let fixture = try ClassificationFixture(name)
    let model = try fixture.load()
    try model.mergeAdapter()
    #expect(try fixture.error(model.base, "merged_logits") < 2 * tolerance)
    try model.unmergeAdapter()
    #expect(try fixture.error(model.base) < tolerance)
    let folder = try TemporaryFolder()
    try model.mergeAndUnload().savePretrained(to: folder.url)
    let again = try AutoModelForSequenceClassification.fromPretrained(folder.path(""), device: testDevice)
    #expect(try fixture.error(again, "merged_logits") < 2 * tolerance)
    #expect(try again.labels == fixture.labels || again.labels.problemType == nil)
  }

  @Test("what is trained, and how many elements, is as in PEFT", arguments: ClassificationFixture.names)
  func counts(_ name: String) throws {
    let fixture = try ClassificationFixture(name)
    let configuration = try PEFTModel.readConfiguration(fixture.folder)
    let model = try PEFTModel(fixture.base(), configuration)
    #expect(model.trainableParametersLine == fixture.facts["line"]?.stringValue)
    #expect(model.trainableParameters.count == fixture.facts["trainable"]?.arrayValue?.count)
    #expect(model.trainableParameters.contains { $0.key == "score.weight" })
  }

  @Test(
    "a saved adapter has PEFT's tensors, and its labels beside them", arguments: ClassificationFixture.names)
  func files(_ name: String) throws {
    let fixture = try ClassificationFixture(name)
    let model = try fixture.load()
    let folder = try TemporaryFolder()
    try model.savePretrained(folder.path(""))
    let (found, wanted) = (
      try SafetensorsFile(folder.url.appending(path: "adapter_model.safetensors")),
      try SafetensorsFile(fixture.folder.appending(path: "adapter_model.safetensors"))
    )
    #expect(Set(found.tensorNames) == Set(wanted.tensorNames))
    for name in wanted.tensorNames {
      #expect(try found.tensor(name).floats() == wanted.tensor(name).floats(), "\(name)")
    }
    let json = try JSONValue(parsing: Data(contentsOf: folder.url.appending(path: "adapter_config.json")))
    #expect(json["task_type"] == "SEQ_CLS")
    #expect(json["modules_to_save"]?.arrayValue?.contains("score") == true)
    #expect(try folder.text("README.md").contains("AutoPeftModelForSequenceClassification"))
    #expect(try ClassificationLabels(adapter: folder.url).count == fixture.labels.count)
    let again = try AutoPEFTModel.fromPretrained(
      folder.path(""), baseModel: tinyBase(fixture.baseName), dtype: .float32, device: testDevice)
    #expect(try fixture.error(again.base) < tolerance)
  }

  @Test(
    "every method of the catalogue trains the head and saves it",
    arguments: AdapterMethod.catalogue.map(\.name))
  func everyMethod(_ name: String) throws {
    let method = try AdapterMethod.named(name, in: "test")
    var options: JSONValue = ["task_type": "SEQ_CLS"]
    if method.options.contains(where: { $0.name == "num_virtual_tokens" }) {
      options["num_virtual_tokens"] = 4
    }
    if name == "adalora" { options["total_step"] = 20 }
    if name == "oft" || name == "boft" { options["\(name)_block_size"] = 8 }
    if name == "bitfit" { options["create_biases"] = true }
    let fields = AdapterFields(options.objectValue ?? [:], source: "test")
    let configuration = try method.configuration(fields)
    let fixture = try ClassificationFixture("lora-llama")
    let model = try PEFTModel(fixture.base(), configuration)
    #expect(model.trainableParameters.count { $0.key == "score.weight" } == 1)
    let folder = try TemporaryFolder()
    try model.savePretrained(folder.path(""))
    let logits = try withoutGradient { try model.base.logits(fixture.input).floats() }
    let again: any PretrainedModel
    if try model.isWholeModel("default") {
      again = try AutoModel.fromPretrained(PretrainedSource(folder.path("")), device: testDevice)
    } else {
      again = try AutoPEFTModel.fromPretrained(
        folder.path(""), baseModel: tinyBase(fixture.baseName), dtype: .float32, device: testDevice
      ).base
    }
    let found = try withoutGradient { try again.logits(fixture.input) }
    #expect(try relativeError(found, Tensor(logits).reshaped(found.shape)) < tolerance)
  }

  @Test("an adapter on a changed base becomes a plain one with its head and labels")
  func converted() throws {
    let fixture = try ClassificationFixture("lora-llama")
    let names = ["no", "perhaps", "yes"]
    let source = try PretrainedSource(tinyBase(fixture.baseName))
    let base = try AutoModelForSequenceClassification.fromPretrained(
      source, labels: ClassificationLabels(names: names, problemType: .singleLabel), dtype: .float32,
      device: testDevice)
    let model = try PEFTModel(base, LoRAConfig(r: 4, initLoRAWeights: .pissa, taskType: "SEQ_CLS"))
    for (key, parameter) in model.trainableParameters where key.contains("lora_B") {
      try withoutGradient { try parameter.value.copyInPlace(parameter.value.detached() * 1.5) }
    }
    let folder = try TemporaryFolder()
    try model.savePlainLoRA("default", to: folder.url)
    let again = try AutoPEFTModelForSequenceClassification.fromPretrained(
      folder.path(""), baseModel: tinyBase(fixture.baseName), dtype: .float32, device: testDevice)
    #expect(try again.sequenceClassificationModel().labels.names == names)
    let wanted = try withoutGradient { try model.base.logits(fixture.input) }
    let found = try withoutGradient { try again.base.logits(fixture.input) }
    // A decomposition lies between the two.
    #expect(try relativeError(found, wanted) < 5 * tolerance)
  }

  @Test("the last blocks alone are trained with a new head")
  func partialWithNewHead() throws {
    let fixture = try ClassificationFixture("lora-llama")
    let model = try PEFTModel(
      fixture.base(), FullFineTuningConfig(numTrainableLayers: 1, taskType: "SEQ_CLS"))
    #expect(model.trainableParameters.contains { $0.key == "score.weight" })
    #expect(!model.trainableParameters.contains { $0.key.hasPrefix("model.layers.0.") })
  }

  @Test("the printed tree is named as PEFT names it")
  func tree() throws {
    let model = try ClassificationFixture("lora-llama").load()
    #expect(model.description.hasPrefix("PeftModelForSequenceClassification(\n  (base_model): LoraModel("))
    #expect(model.description.contains("(model): LlamaForSequenceClassification("))
    #expect(model.description.contains("(score): ModulesToSaveWrapper("))
  }

  // MARK: Errors

  @Test("a model with a head for other labels is refused")
  func otherCount() throws {
    let path = try ClassificationFixture("base-llama").path
    let text = message {
      _ = try AutoModelForSequenceClassification.fromPretrained(path, numLabels: 3, device: testDevice)
    }
    #expect(text.contains("tells 2 labels apart (no, yes), and 3 are asked for"))
    #expect(
      message {
        _ = try AutoModelForSequenceClassification.fromPretrained(path, numLabels: 0, device: testDevice)
      }
      .contains("`num_labels` is 0"))
  }

  @Test("a classifier is no language model")
  func noLanguageModel() throws {
    let fixture = try ClassificationFixture("base-llama")
    let text = message { _ = try AutoModelForCausalLM.fromPretrained(fixture.path, device: testDevice) }
    #expect(text.contains("LlamaForSequenceClassification") && text.contains("graft classify"))
    let model = try ClassificationFixture("lora-llama").load()
    #expect(message { _ = try model.causalLanguageModel() }.contains("writes none"))
    let adapter = try ClassificationFixture("lora-llama")
    #expect(
      message {
        _ = try AutoPEFTModelForCausalLM.fromPretrained(
          adapter.path, baseModel: tinyBase(adapter.baseName), device: testDevice)
      }.contains("writes none"))
  }

  @Test("adapters fit models of their task")
  func otherTask() throws {
    let fixture = try ClassificationFixture("lora-llama")
    let text = message { _ = try PEFTModel(fixture.base(), LoRAConfig(r: 4)) }
    #expect(text.contains("`task_type` of the adapter is CAUSAL_LM") && text.contains("task_type: SEQ_CLS"))
    let base = try AutoModelForCausalLM.fromPretrained(tinyBase(fixture.baseName), device: testDevice)
    let reversed = message { try PEFTModel(base).loadAdapter(fixture.path) }
    #expect(reversed.contains("AutoModelForSequenceClassification"))
    #expect(
      message { _ = try PEFTModel(base).sequenceClassificationModel() }.contains("no head for labels"))
  }

  @Test("labels that contradict themselves are refused, with the key")
  func labelErrors() throws {
    func text(_ json: JSONValue) -> String {
      message { _ = try ClassificationLabels(ModelConfiguration(json: json, source: "config.json")) }
    }
    #expect(text(["num_labels": 3, "id2label": ["0": "a", "1": "b"]]).contains("`num_labels` is 3"))
    #expect(text(["id2label": ["0": "a", "2": "b"]]).contains("`id2label` in config.json gives 2"))
    #expect(text(["id2label": ["0": 1]]).contains("`id2label`"))
    #expect(text(["id2label": ["0": "a"], "label2id": ["a": 1]]).contains("`label2id`"))
    #expect(text(["problem_type": "ranking"]).contains("`problem_type` in config.json is `ranking`"))
    #expect(text(["num_labels": 0]).contains("`num_labels`"))
    let none = try ClassificationLabels(ModelConfiguration(json: [:], source: "config.json"))
    #expect(none == ClassificationLabels(count: 2))
  }
}
