import Adapters
import Datasets
import Foundation
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// Trains the active adapters of a model on examples: transformers' `Trainer`.
///
/// ```swift
/// let trainer = try Trainer(model: model, arguments: arguments, trainDataset: examples, evalDataset: validation)
/// let outcome = try trainer.train()
/// ```
///
/// The loop runs on the calling thread, which it keeps: the engine's worker threads belong to the thread that calls it.
public final class Trainer {
  public let model: PEFTModel
  public let arguments: TrainingArguments
  public let objective: any Objective
  public let trainDataset: any ExampleSource
  public let evalDataset: (any ExampleSource)?

  /// Where metrics go.
  public var log: (any MetricsSink)?
  /// Writes what belongs beside an adapter, such as the tokenizer's files, into a folder.
  public var saveCompanions: ((URL) throws -> Void)?
  /// Asked between steps; true ends the run in an orderly way.
  public var shouldStop: () -> Bool = { false }
  /// More metrics for evaluations, by name without `eval_`.
  public var computeMetrics: ((PEFTModel) throws -> [String: Double])?

  /// Measures where the time of the steps goes.
  public var profiler: StepProfiler?

  public package(set) var state = TrainerState()

  package let optimizer: any Optimizer
  let schedule: any LearningRateSchedule
  let plan: DataPlan
  let parameters: [(key: String, parameter: Parameter)]
  let stepsPerEpoch: Int
  var lastSavedStep = -1
  private var isPrepared = false
  var clock = StepClock()
  /// The most tokens of one pass, from the model as it is trained.
  var tokensPerPass = Int.max

  /// - Throws: ``TrainingError``, `ConfigurationError` or `DataError` for arguments and data that cannot be trained with.
  public init(
    model: PEFTModel, arguments: TrainingArguments, trainDataset: any ExampleSource,
    evalDataset: (any ExampleSource)? = nil, objective: any Objective = CausalLanguageModeling()
  ) throws {
    try arguments.validate(hasValidationData: evalDataset != nil)
    try Trainer.checkSupervision(of: trainDataset, "training", objective)
    if let evalDataset { try Trainer.checkSupervision(of: evalDataset, "validation", objective) }
    self.model = model
    self.arguments = arguments
    self.objective = objective
    self.trainDataset = trainDataset
    self.evalDataset = evalDataset

    plan = try DataPlan(
      lengths: trainDataset.lengths,
      options: BatchingOptions(arguments))

    let batches = plan.epoch(0).count
    guard batches > 0 else {
      throw TrainingError(
        "No batch is full: \(trainDataset.lengths.count) examples, per_device_train_batch_size "
          + "\(arguments.perDeviceTrainBatchSize). Set dataloader_drop_last to false, or the batch size lower."
      )
    }
    try Trainer.startFromData(model, arguments, plan, trainDataset)

    parameters = model.trainableParameters
    guard !parameters.isEmpty else {
      throw TrainingError(
        "Nothing is trainable: the model has no active adapter. Add one with PEFTModel(base, config).")
    }
    optimizer = try arguments.optimizer(for: parameters)

    let accumulation = arguments.gradientAccumulationSteps
    stepsPerEpoch = (batches + accumulation - 1) / accumulation
    state.maxSteps =
      arguments.maxSteps > 0
      ? arguments.maxSteps : Int((arguments.numTrainEpochs * Double(stepsPerEpoch)).rounded(.up))
    schedule = try arguments.schedule(ofTotal: state.maxSteps)
    state.fingerprint = fingerprint()
    if arguments.fp16 { state.lossScale = LossScale() }
    model.base.usesGradientCheckpointing = arguments.gradientCheckpointing
    model.base.checkpointing = LayerCheckpointing(layerCount: arguments.gradientCheckpointingLayers)
    if arguments.activationOffloading {
      let offloading = ActivationOffloading(folder: arguments.outputDir)
      model.base.checkpointing.keep = { try offloading.keep($0) }
    }
  }

  /// What a run came to.
  public struct Outcome: Sendable, Codable {
    public var steps: Int
    public var epochs: Double
    /// Mean loss over the steps of this process.
    public var trainLoss: Double
    public var seconds: Double
    public var tokensPerSecond: Double
    public var bestModelCheckpoint: String?
    public var bestMetric: Double?
    public var stoppedEarly: Bool
  }

  /// Data that nothing can be learned from, or measured on, are found out before the first step.
  private static func checkSupervision(
    of dataset: any ExampleSource, _ role: String, _ objective: any Objective
  ) throws {
    let count = dataset.lengths.count
    for index in 0..<count where objective.weight(of: Batch([try dataset.example(at: index)])) > 0 { return }
    throw count == 0
      ? TrainingError("The \(role) data has no examples; check the file, and what was dropped from it.")
      : noSupervision(count, role)
  }

  /// Takes up the checkpoint that the arguments ask for, after checking what would only show later in the run: the metric,
  /// and the folder that checkpoints go to.
  ///
  /// ``train()`` does it by itself. Who opens logs calls it before, so that a run that is refused changes no file.
  ///
  /// - Returns: the step that the run goes on from; nil when it begins.
  @discardableResult
  public func prepare() throws -> Int? {
    if !isPrepared {
      if evalDataset != nil, computeMetrics == nil {
        let names = ["loss"] + objective.metricNames
        _ = try bestMetric(among: Dictionary(uniqueKeysWithValues: names.map { ($0, 0) }))
      }
      if arguments.saveStrategy != .no { try prepareOutputFolder() }
      try model.prepareTraining(totalSteps: state.maxSteps)
      try resumeIfAsked()
      isPrepared = true
    }
    return state.globalStep > 0 ? state.globalStep : nil
  }

  // MARK: The loop

  /// Trains to the end, or from a checkpoint to the end.
  ///
  /// - Throws: ``TrainingInterrupted`` when ``shouldStop`` asked for it, ``TrainingError`` when the loss is not a number.
  @discardableResult
  public func train() throws -> Outcome {
    try prepare()
    if state.globalStep == 0 {
      try RandomState.seed(arguments.seed)
      state.evaluationIsDue = arguments.evalOnStart
    }
    // What reading rows and weights has left of the heap.
    Engine.releaseFreedMemory()
    clock.start(tokens: state.tokens)
    var lossSum = 0.0
    var lossCount = 0

    model.isTraining = true
    defer { model.isTraining = false }
    tokensPerPass = try arguments.maxTokensPerPass(
      model, on: model.base.device.kind, weightBytes: model.base.weightBytes,
      elementSize: model.base.inputEmbedding.weight.value.dtype.byteCount)
    // The evaluation before the first step, or the one that the interruption of this run cut short.
    if state.evaluationIsDue { try evaluateAndSave() }
    training: while state.globalStep < state.maxSteps, !isOutOfPatience {
      let epoch = plan.epoch(state.position.epoch)
      while state.position.batch < epoch.count {
        let end = min(state.position.batch + arguments.gradientAccumulationSteps, epoch.count)
        let window = state.position.batch..<end
        let load = { try window.map { try self.batch(epoch[$0]) } }
        let batches = try profiler?.data(load) ?? load()
        let result = try profiler?.step { try step(batches) } ?? step(batches)
        state.globalStep += 1
        state.position.batch = end
        if !result.loss.isNaN {
          lossSum += result.loss
          lossCount += 1
        }
        try afterStep(result, endsEpoch: end == epoch.count)
        if isOutOfPatience || state.globalStep >= state.maxSteps { break training }
        if shouldStop() { try interrupt() }
      }
      state.position = DataPosition(epoch: state.position.epoch + 1, batch: 0)
    }

    try finish()
    return Outcome(
      steps: state.globalStep, epochs: epochs, trainLoss: lossCount > 0 ? lossSum / Double(lossCount) : 0,
      seconds: clock.seconds, tokensPerSecond: clock.tokensPerSecond,
      bestModelCheckpoint: state.bestModelCheckpoint, bestMetric: state.bestMetric,
      stoppedEarly: isOutOfPatience && state.globalStep < state.maxSteps)
  }

  func interrupt() throws -> Never {
    // Before the first step there is nothing to save.
    let saves = arguments.saveStrategy != .no && state.globalStep > 0
    if saves { try saveCheckpoint() }
    try log?.finish()
    throw TrainingInterrupted(
      step: state.globalStep,
      checkpoint: saves && !arguments.saveOnlyModel ? checkpointURL(state.globalStep).path : nil)
  }

  private func finish() throws {
    if arguments.loadBestModelAtEnd, let best = state.bestModelCheckpoint {
      try loadAdapterWeights(from: URL(fileURLWithPath: best))
    }
    try log?.finish()
  }
}
