import Adapters
import Datasets
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch
import Training

extension TrainerTests {
  /// Trainings of every method that PEFT, or PyTorch where PEFT does not have the method, made from the adapters of
  /// Tests/AdaptersTests/Fixtures; method_fixtures.py there says what they hold.
  @Suite("Training of every method")
  struct MethodTraining {
    @Test("every method of the catalogue has trainings")
    func complete() throws {
      let trained = try Set(MethodTrainingFixture.names.map { try MethodTrainingFixture($0).peftType })
      for method in AdapterMethod.catalogue {
        #expect(trained.contains(method.peftType), "\(method.peftType)")
      }
    }

    @Test(
      "the gradients of the first step are the reference's", arguments: MethodTrainingFixture.names)
    func gradients(_ name: String) throws {
      let fixture = try MethodTrainingFixture(name)
      let trainer = try fixture.trainer()
      try trainer.prepare()
      let model = trainer.model
      model.isTraining = true
      let batch = Batch(try (0..<fixture.batchSize).map { try trainer.trainDataset.example(at: $0) })
      let sum = try trainer.objective.lossSum(model, batch)
      var loss = try sum / Double(trainer.objective.weight(of: batch))
      if let penalty = try model.penalty() { loss = try loss + penalty }
      try loss.backward()

      let parameters = model.trainableParameters
      let expected = Set(fixture.tensors.tensorNames.filter { $0.hasPrefix("gradient.") })
      #expect(Set(parameters.map { "gradient.\($0.key)" }) == expected)
      for (key, parameter) in parameters where expected.contains("gradient.\(key)") {
        let wanted = try fixture.tensors.tensor("gradient.\(key)").to(device: testDevice)
        let found = try parameter.value.gradient ?? Tensor.zeros(parameter.shape, device: testDevice)
        #expect(found.shape == wanted.shape, "\(key)")
        guard found.count > 0 else { continue }
        // Against the largest of all gradients of the tensor; a gradient that is nothing but rounding has its own measure.
        let scale = max(try wanted.absolute().max().item(), 1e-6)
        let error = try (found - wanted).absolute().max().item() / scale
        #expect(error < fixture.tolerance.gradient, "\(key): \(error)")
      }
    }

    @Test("losses and final weights are the reference's", arguments: MethodTrainingFixture.names)
    func trajectory(_ name: String) throws {
      let fixture = try MethodTrainingFixture(name)
      let trainer = try fixture.trainer()
      let recorder = Recorder()
      trainer.log = recorder
      try trainer.train()
      #expect(fixture.document.losses.count >= 10)
      try #require(recorder.steps.count == fixture.document.losses.count)
      for (report, expected) in zip(recorder.steps, fixture.document.losses) {
        let error = abs(report.loss - expected) / abs(expected)
        #expect(error < fixture.tolerance.loss, "step \(report.step): \(error)")
      }
      for (key, parameter) in trainer.model.trainableParameters {
        let wanted = try fixture.tensors.tensor("final.\(key)").to(device: testDevice)
        #expect(parameter.shape == wanted.shape, "\(key)")
        guard parameter.count > 0 else { continue }
        let error = try withoutGradient { try (parameter.value.detached() - wanted).absolute().max().item() }
        #expect(error < fixture.tolerance.final, "\(key): \(error)")
      }
    }

    @Test("an interrupted run goes on to the same bits", arguments: MethodTrainingFixture.names)
    func resuming(_ name: String) throws {
      let fixture = try MethodTrainingFixture(name)
      let folder = try TemporaryFolder()
      let whole = try fixture.trainer()
      let recorder = Recorder()
      whole.log = recorder
      try whole.train()

      let parts = folder.path("parts")
      for stop in [4, 9] {
        let trainer = try fixture.trainer(in: parts)
        trainer.shouldStop = { [unowned trainer] in trainer.state.globalStep >= stop }
        #expect(throws: TrainingInterrupted.self) { try trainer.train() }
      }
      let resumed = try fixture.trainer(in: parts)
      let rest = Recorder()
      resumed.log = rest
      try resumed.train()
      #expect(rest.steps.map(\.loss) == recorder.steps.dropFirst(9).map(\.loss))
      #expect(try resumed.weights == whole.weights)
    }
  }
}

/// A training beside an adapter that PEFT saved.
struct MethodTrainingFixture {
  struct Document: Decodable {
    struct Tolerance: Decodable {
      var loss: Double?
      var gradient: Double?
      var final: Double?
    }
    var learningRate: Double
    var weightDecay: Double
    var batches: [[[Int32]]]
    var losses: [Double]
    var tolerance: Tolerance?

    enum CodingKeys: String, CodingKey {
      case learningRate = "learning_rate"
      case weightDecay = "weight_decay"
      case batches, losses, tolerance
    }
  }

  let name: String
  let document: Document
  let facts: JSONValue
  let tensors: SafetensorsFile

  static let directory = Fixture.directory.deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "AdaptersTests/Fixtures")

  /// Paths of all folders with a training.
  static let names: [String] = {
    let paths = FileManager.default.enumerator(atPath: directory.path(percentEncoded: false))
    return (paths?.allObjects as? [String] ?? []).filter { $0.hasSuffix("/training.json") }
      .map { String($0.dropLast("/training.json".count)) }.sorted()
  }()

  init(_ name: String) throws {
    self.name = name
    let folder = Self.directory.appending(path: name)
    func json(_ file: String) throws -> JSONValue {
      try JSONValue(parsing: Data(contentsOf: folder.appending(path: file)))
    }
    document = try json("training.json").decode(Document.self)
    facts = try json("expected.json")
    tensors = try SafetensorsFile(folder.appending(path: "training.safetensors"))
  }

  var folder: URL { Self.directory.appending(path: name) }
  var batchSize: Int { document.batches[0].count }

  /// Of losses relative, of gradients relative to the tensor's largest, of weights absolute. fp32 sums in another order,
  /// grown by ten steps of Adam, which divides small gradients by their own size.
  var tolerance: (loss: Double, gradient: Double, final: Double) {
    let own = document.tolerance
    return (own?.loss ?? 2e-5, own?.gradient ?? 2e-4, own?.final ?? 5e-4)
  }

  var peftType: String {
    get throws { type(of: try configuration).method.peftType }
  }

  /// What the adapter's directory says; where the base itself is trained, the options in `expected.json`.
  var configuration: any AdapterConfiguration {
    get throws {
      guard let options = facts["config"]?.objectValue else { return try PEFTModel.readConfiguration(folder) }
      return try AdapterMethod.named("FULL", in: name).configuration(AdapterFields(options, source: name))
    }
  }

  /// The adapter of the folder on its base, with the values that the training starts from.
  func model() throws -> PEFTModel {
    let base = try #require(facts["base"]?.stringValue)
    let model = try PEFTModel(
      AutoModelForCausalLM.fromPretrained(tinyBase(base), dtype: .float32, device: testDevice))
    if facts["config"] == nil {
      try model.loadAdapter(folder.path(percentEncoded: false))
    } else {
      try model.addAdapter("default", configuration)
      try model.setAdapter("default")
    }
    for (key, parameter) in model.trainableParameters where tensors.contains("initial.\(key)") {
      try parameter.value.copyInPlace(tensors.tensor("initial.\(key)"))
    }
    // What the file of the adapter loses.
    for tensor in model.trainingState {
      let name = "initial.\(tensor.name.dropFirst("default.".count))"
      if tensors.contains(name) { try tensor.load?(tensors.tensor(name)) }
    }
    return model
  }

  /// - Parameter folder: where checkpoints go, and where the newest is taken up; nil keeps none.
  func trainer(in folder: String? = nil) throws -> Trainer {
    Engine.threadCount = 1
    var arguments = TrainingArguments()
    arguments.outputDir = folder ?? "unused"
    arguments.saveStrategy = folder == nil ? .no : .steps
    arguments.resumeFromCheckpoint = folder == nil ? nil : .latest
    arguments.maxSteps = document.batches.count
    arguments.perDeviceTrainBatchSize = batchSize
    arguments.trainSamplingStrategy = .sequential
    arguments.learningRate = document.learningRate
    arguments.weightDecay = document.weightDecay
    arguments.lrSchedulerType = "constant"
    arguments.maxGradNorm = 0
    let rows = document.batches.joined().map { Datasets.Example(tokens: $0, labels: $0) }
    return try Trainer(model: model(), arguments: arguments, trainDataset: ExampleList(rows))
  }
}
