import Adapters
import Datasets
import Files
import Formats
import Foundation
import Generation
import JSON
import Models
import NeuralNetworks
import Tokenizers
import Torch

/// A whole run as a ``RunConfiguration`` describes it: model, data, adapter, training, files.
///
/// What can be wrong is found in the order of its price: the configuration first, then the tokenizer and the data, while the
/// weights are laid out by another thread; an error in the data ends that at the next weight.
public struct TrainingRun {
  public let configuration: RunConfiguration
  /// Gets what the user should know, one line at a time.
  public var message: (String) -> Void = { _ in }
  /// The terminal's last line, for the progress bar.
  public var status: StatusLine?
  /// Where rows are kept as tokens for the next run on the same data; nil holds them in memory.
  public var cacheFolder: URL?
  /// Asked between steps; true saves and stops.
  public var shouldStop: () -> Bool = { false }
  /// Whether to measure where the time of the steps goes; `profile.folded`, for flame graphs, then lies in the output folder.
  public var profiles = false

  public init(_ configuration: RunConfiguration) {
    self.configuration = configuration
  }

  /// What the run left behind.
  public struct Summary: Sendable, Codable {
    public var adapter: String
    public var trainableParameters: Int
    public var allParameters: Int
    public var examples: Int
    public var outcome: Trainer.Outcome
    public var evaluationLoss: Double?
    /// What else the evaluation measured, by name: the accuracy of labels, for instance.
    public var evaluationMetrics: [String: Double]?
    public var peakMemoryBytes: Int
    /// Where the time of the steps went, when it was measured.
    public var profile: StepProfile?
  }

  /// Runs to the end.
  ///
  /// - Throws: an error that says what, where and the remedy; ``TrainingInterrupted`` after saving when asked to stop.
  public func run() async throws -> Summary {
    let configuration = configuration
    try configuration.validate()
    try configuration.data.checkFiles()
    let arguments = configuration.training
    try checkOutputDirectory()
    let device = try Device(choice: configuration.model.device)
    try Engine.prepare(device)
    if arguments.fp16 { try device.checkHalfPrecision() }
    let adapter = try adapterConfiguration()

    let source = try PretrainedSource(configuration.model.modelNameOrPath)
    // A classifier's head depends on the labels in the data.
    async let early = configuration.task == .causalLM ? configuration.loadBase(source, on: device) : nil
    let prepared = try await prepare(source, adapter)
    let base = try await early ?? configuration.loadBase(source, labels: prepared.data.labels, on: device)
    return try train(base.model, source, prepared)
  }

  /// What of data and tokenizer is needed once the rows are tokens. The tokenizer itself, tens of megabytes, is not.
  private struct Prepared {
    var adapter: any AdapterConfiguration
    let data: TrainingData
    let tokenizerFiles: TokenizerFiles
  }

  private func prepare(_ source: PretrainedSource, _ adapter: any AdapterConfiguration) async throws
    -> Prepared
  {
    var adapter = adapter
    let tokenizer = try loadTokenizer(source)
    try adapter.encodeTexts { tokenizer.encode($0) }
    try checkContext(source, virtualTokens: adapter.virtualTokenCount)
    if configuration.task == .causalLM { try checkWrites(source) }
    let data = try await TrainingData(
      configuration.data, configuration.training, tokenizer: tokenizer, cacheFolder: cacheFolder,
      labels: configuration.labels(for: source.classificationLabels), message: message)
    if let labels = data.labels { message(Self.summary(of: labels)) }
    message("training data: \(data.trainReport)")
    if let report = data.validationReport { message("validation data: \(report)") }
    return Prepared(adapter: adapter, data: data, tokenizerFiles: tokenizer.tokenizer.files)
  }

  private func train(_ base: any PretrainedModel, _ source: PretrainedSource, _ prepared: Prepared) throws
    -> Summary
  {
    let (data, tokenizerFiles) = (prepared.data, prepared.tokenizerFiles)
    let arguments = configuration.training
    configuration.takeThreads()
    if (base as? any SequenceClassificationModel)?.hasNewHead == true {
      message(
        "the model has no head for labels: a new one starts at random (seed \(arguments.seed)) and is trained and saved with "
          + "the adapter")
    }
    try RandomState.seed(arguments.seed)
    let model = try PEFTModel(base, prepared.adapter)
    if configuration.model.replaceLoraWeightsLoftq, arguments.resumeFromCheckpoint == nil {
      try model.replaceLoRAWeightsLoftQ(original: source)
    }
    message(model.trainableParametersLine)

    let trainer = try Trainer(
      model: model, arguments: arguments, trainDataset: data.train, evalDataset: data.validation,
      objective: objective(data))
    trainer.shouldStop = shouldStop
    // A model directory is complete with what transformers generates by.
    let isWholeModel = try model.activeAdapters.contains { try model.isWholeModel($0) }
    let generation = source.url.appendingPathComponent("generation_config.json")
    let settings = isWholeModel ? try? Data(contentsOf: generation) : nil
    let saveCompanions = { (folder: URL) in
      try tokenizerFiles.save(to: folder)
      if let settings {
        try AtomicFile.write(settings, to: folder.appendingPathComponent("generation_config.json"))
      }
    }
    trainer.saveCompanions = saveCompanions
    let resumedStep = try trainer.prepare()
    if let resumedStep { message("continuing from step \(resumedStep) of \(trainer.state.maxSteps)") }
    try FileManager.default.createDirectory(
      atPath: arguments.outputDir, withIntermediateDirectories: true)
    let output = URL(fileURLWithPath: arguments.outputDir, isDirectory: true)
    try AtomicFile.write(Data(configuration.yaml().utf8), to: output.appendingPathComponent("run.yaml"))
    trainer.log = try RunLog(
      arguments, configuration: configuration.yaml(), resumedStep: resumedStep, status: status)

    if profiles { trainer.profiler = StepProfiler() }
    let outcome = try trainer.train()
    let profile = try trainer.profiler?.finish()
    if let stacks = trainer.profiler?.foldedStacks {
      try AtomicFile.write(Data(stacks.utf8), to: output.appendingPathComponent("profile.folded"))
    }
    try saveCompanions(output)
    if arguments.convertToPlainLora {
      try model.savePlainLoRA("default", to: output)
    } else {
      try model.savePretrained(output.path)
    }
    let evaluation = try finalEvaluation(trainer)
    let counts = model.parameterCounts
    return Summary(
      adapter: output.path, trainableParameters: counts.trainable, allParameters: counts.all,
      examples: data.train.lengths.count, outcome: outcome, evaluationLoss: evaluation?.loss,
      evaluationMetrics: evaluation.flatMap { report in
        // JSON has no other numbers than finite ones.
        let metrics = report.metrics.filter { $0.value.isFinite }
        return metrics.isEmpty ? nil : Dictionary(uniqueKeysWithValues: metrics.map { ($0.key, $0.value) })
      },
      peakMemoryBytes: ProcessMemory.peak, profile: profile)
  }

  /// The evaluation on the validation data; nil without such data, and when the user cannot wait for it.
  private func finalEvaluation(_ trainer: Trainer) throws -> EvaluationReport? {
    guard trainer.evalDataset != nil else { return nil }
    do {
      return try trainer.evaluate()
    } catch is CancellationError {
      message("stopped before the final evaluation; the adapter is saved")
      return nil
    }
  }

  // MARK: Parts

  /// What the run minimises.
  private func objective(_ data: TrainingData) -> any Objective {
    guard let labels = data.labels else { return CausalLanguageModeling() }
    return SequenceClassification(.init(labels.kind), labels: labels.names)
  }

  /// A base that gives labels learns no text.
  private func checkWrites(_ source: PretrainedSource) throws {
    guard source.task == .sequenceClassification else { return }
    throw TrainingError(
      "The model at \(source.url.path) is a \(source.family.architecture(source.task)), which gives texts labels, and `task_type` "
        + "is CAUSAL_LM. Set `task_type: SEQ_CLS`, or name a model that generates.")
  }

  private static func summary(of labels: LabelSet) -> String {
    let kind = ClassificationLabels.ProblemType(labels.kind).rawValue
    guard labels.kind != .numbers else {
      return "labels: \(labels.names.count) number\(labels.names.count == 1 ? "" : "s") (\(kind))"
    }
    let names = labels.names.prefix(10).joined(separator: ", ") + (labels.names.count > 10 ? ", …" : "")
    return "labels: \(labels.names.count), \(names) (\(kind))"
  }

  /// The adapter's settings, with the base model's place so that the adapter can find it again.
  private func adapterConfiguration() throws -> any AdapterConfiguration {
    var adapter = try configuration.adapterConfiguration()
    let path = configuration.model.modelNameOrPath
    adapter.common.baseModelNameOrPath =
      FileManager.default.fileExists(atPath: path)
      ? URL(fileURLWithPath: path).standardizedFileURL.path : path
    adapter.common.revision = configuration.model.revision
    return adapter
  }

  private func loadTokenizer(_ source: PretrainedSource) throws -> ChatTokenizer {
    var tokenizer =
      try configuration.model.tokenizerNameOrPath.map { try AutoTokenizer.fromPretrained($0) }
      ?? AutoTokenizer.fromPretrained(source)
    if let path = configuration.model.chatTemplatePath {
      guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
        throw TrainingError("The chat template \(path) cannot be read; check `chat_template_path`.")
      }
      tokenizer.chatTemplate = try ChatTemplate(
        text, specialTokens: tokenizer.chatTemplate?.specialTokens ?? [:])
    }
    return tokenizer
  }

  private func checkContext(_ source: PretrainedSource, virtualTokens: Int) throws {
    let context = try source.configuration.integer("max_position_embeddings", default: Int(Int32.max))
    let left = context - virtualTokens
    guard left > 0 else {
      throw TrainingError(
        "`num_virtual_tokens` is \(virtualTokens), and the model at \(source.url.path) has a context of \(context) tokens. "
          + "Set num_virtual_tokens lower.")
    }
    guard let maxLength = configuration.training.maxLength, maxLength > left else { return }
    let taken = virtualTokens > 0 ? ", of which `num_virtual_tokens` takes \(virtualTokens)" : ""
    throw TrainingError(
      "`max_length` is \(maxLength), and the model at \(source.url.path) has a context of \(context) tokens\(taken). Set "
        + "max_length to \(left) or less.")
  }

  /// A run never writes over another's results.
  private func checkOutputDirectory() throws {
    let arguments = configuration.training
    guard arguments.resumeFromCheckpoint == nil else { return }
    let output = URL(fileURLWithPath: arguments.outputDir, isDirectory: true)
    let hasAdapter = ["adapter_config.json", "config.json"].contains {
      FileManager.default.fileExists(atPath: output.appendingPathComponent($0).path)
    }
    guard hasAdapter || !Trainer.checkpoints(in: arguments.outputDir).isEmpty else { return }
    throw TrainingError(
      "\(output.path) holds the \(hasAdapter ? "result" : "checkpoints") of an earlier run. Go on with it (`--resume`, or "
        + "resume_from_checkpoint: true), name another output_dir, or remove the folder.")
  }
}

extension Device {
  /// The device that `auto`, `cpu`, `cuda`, … means on this machine.
  public init(choice: String) throws {
    guard choice == "auto" else {
      try self.init(parsing: choice)
      return
    }
    self = (try? Engine.prepare(.cuda)) != nil ? .cuda : .cpu
  }
}

extension Device {
  /// Computes one product in float16: engines without them on a device say so only then.
  ///
  /// - Throws: ``TrainingError`` when the device has none.
  package func checkHalfPrecision() throws {
    do {
      let one = try Tensor.ones([2, 2], dtype: .float16, device: self)
      _ = try one.linear(one).floats()
    } catch {
      throw TrainingError(
        "`fp16: true` asks for products in float16, which the device \(self) does not compute (\(error)). Use bf16: true, or "
          + "neither.")
    }
  }
}

extension RunConfiguration {
  /// The type to hold the base and compute in; nil takes the one that its files have.
  var computeType: DType? {
    if training.bf16 { return .bfloat16 }
    if training.fp16 { return .float16 }
    return switch model.dtype {
    case .auto: nil
    case .float32: .float32
    case .bfloat16: .bfloat16
    }
  }
}

/// A model, handed from the task that loaded it to the one that trains it.
private struct LoadedBase: @unchecked Sendable {
  let model: any PretrainedModel
}

extension RunConfiguration {
  fileprivate func loadBase(_ source: PretrainedSource, labels: LabelSet? = nil, on device: Device) throws
    -> LoadedBase
  {
    takeThreads()
    return LoadedBase(
      model: try AutoModel.fromPretrained(
        source, task: task, labels: labels.map { ClassificationLabels($0) }, dtype: computeType,
        device: device,
        quantization: model.quantization, seed: training.seed))
  }

  /// The engine counts its threads by the thread that calls it, so each that computes has to say it.
  fileprivate func takeThreads() {
    if let threads = model.numThreads { Engine.threadCount = threads }
  }
}
