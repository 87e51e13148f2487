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
  private var lastSavedStep = -1
  private var isPrepared = false
  private var clock = StepClock()
  /// The most tokens of one pass, from the model as it is trained.
  private var tokensPerPass = Int.max

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
    tokensPerPass = try arguments.maxTokensPerPass(
      model, on: model.base.device.kind, elementSize: model.base.inputEmbedding.weight.value.dtype.byteCount)
    defer { model.isTraining = false }
    // The evaluation before the first step, or the one that the interruption of this run cut short.
    if state.evaluationIsDue { try evaluateAndSave() }
    training: while state.globalStep < state.maxSteps, !isOutOfPatience {
      let epoch = plan.epoch(state.position.epoch)
      while state.position.batch < epoch.count {
        let window =
          state.position
          .batch..<min(
            state.position.batch + arguments.gradientAccumulationSteps, epoch.count)
        let load = { try window.map { try self.batch(epoch[$0]) } }
        let batches = try profiler?.data(load) ?? load()
        let result = try profiler?.step { try step(batches) } ?? step(batches)
        state.globalStep += 1
        state.position.batch = window.upperBound
        if !result.loss.isNaN {
          lossSum += result.loss
          lossCount += 1
        }
        try afterStep(result, endsEpoch: window.upperBound == epoch.count)
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

  struct StepResult {
    /// Mean loss of the supervised tokens; NaN when there are none.
    var loss: Double
    var gradientNorm: Double
    var learningRate: Double
    /// Why nothing was updated; nil when the parameters were.
    var skipped: SkippedStepReport.Reason?
  }

  /// One optimizer step over the batches of an accumulation window.
  private func step(_ window: [Batch]) throws -> StepResult {
    let supervised = window.reduce(0) { $0 + objective.weight(of: $1) }
    state.tokens += window.reduce(0) { $0 + $1.tokens.count }
    state.supervisedTokens += supervised
    for (_, parameter) in parameters { try parameter.value.setGradient(nil) }
    // A mean over nothing: an update would only decay the weights and the moments. transformers' Trainer divides by zero
    // there, and its weights become NaN.
    guard supervised > 0 else { return skipped(.nothingSupervised, loss: .nan, gradientNorm: 0) }

    let loss = try backward(window, supervised: supervised)
    let gradients = try parameters.map { key, parameter in
      guard let gradient = parameter.value.gradient else {
        return try Tensor.zeros(parameter.shape, dtype: parameter.value.dtype, device: parameter.value.device)
      }
      return gradient
    }
    let (norm, overflow) = try clip(gradients, divisor: state.lossScale?.factor ?? Double(supervised))
    if let overflow {
      guard let lossScale = state.lossScale else { throw gradientIsNotFinite(norm, overflow) }
      state.lossScale?.step(overflowed: true)
      guard state.lossScale?.isExhausted == false else { throw overflowsAlways(overflow) }
      return skipped(
        .overflow(parameter: overflow, lossScale: lossScale.factor), loss: loss, gradientNorm: norm)
    }
    let learningRate = learningRate
    try optimizer.step(gradients, learningRate: learningRate)
    try model.didStep(state.globalStep + 1)
    state.lossScale?.step(overflowed: false)
    return StepResult(loss: loss, gradientNorm: norm, learningRate: learningRate)
  }

  /// Makes the gradients of the window's summed loss or, under fp16, of its scaled mean.
  ///
  /// - Returns: the mean loss over the supervised tokens.
  private func backward(_ window: [Batch], supervised: Int) throws -> Double {
    var loss = 0.0
    // Means, as sums would overflow by their number alone.
    let scale = state.lossScale.map { $0.factor / Double(supervised) }
    func add(_ sum: Tensor) throws {
      loss += try sum.item()
      guard loss.isFinite else { throw lossIsNotFinite(loss) }
      try (scale.map { try sum * $0 } ?? sum).backward()
    }
    let passes = window.flatMap { $0.split(maxTokens: tokensPerPass) }
    // The sum over nothing depends on no parameter, so that there is nothing to go back through.
    for pass in passes where objective.weight(of: pass) > 0 { try add(objective.lossSum(model, pass)) }
    // Once a window, and of the weight that it has beside the mean loss.
    if let penalty = try model.penalty() { try add(penalty * Double(supervised)) }
    return loss / Double(supervised)
  }

  /// The rate of the next update. Steps without an update leave the schedule where it is, as in transformers.
  private var learningRate: Double {
    arguments.learningRate * schedule.multiplier(at: state.globalStep - state.skippedSteps)
  }

  /// A step that counts as one, so that the length of the run and the order of the data stay as planned, but updates
  /// nothing.
  private func skipped(_ reason: SkippedStepReport.Reason, loss: Double, gradientNorm: Double) -> StepResult {
    defer { state.skippedSteps += 1 }
    return StepResult(loss: loss, gradientNorm: gradientNorm, learningRate: learningRate, skipped: reason)
  }

  /// Divides the gradients and, when their global norm is above `max_grad_norm`, scales them down to it.
  ///
  /// - Returns: the norm before clipping, and when it is not finite the first parameter whose gradient is not.
  private func clip(_ gradients: [Tensor], divisor: Double) throws -> (norm: Double, overflow: String?) {
    let norms = try Tensor.stacked(gradients.map { try $0.to(.float32).norm() })
    let norm = try norms.norm().item() / divisor
    guard norm.isFinite else {
      let culprit = try norms.doubles().firstIndex { !$0.isFinite }
      // All finite, but not the square of their sum: the largest is to blame.
      let largest = try culprit ?? norms.argmax().integers()[0]
      return (norm, parameters[largest].key)
    }
    var factor = 1 / divisor
    // The small number is PyTorch's, so that norms agree to the last digit.
    if arguments.maxGradNorm > 0 { factor *= min(1, arguments.maxGradNorm / (norm + 1e-6)) }
    for gradient in gradients { try gradient.scaleInPlace(factor) }
    return (norm, nil)
  }

  private func batch(_ indices: ArraySlice<Int32>) throws -> Batch {
    Batch(try indices.map { try trainDataset.example(at: Int($0)) })
  }

  private func lossIsNotFinite(_ value: Double) -> TrainingError {
    diverged("The loss became \(Self.name(value)) at step \(state.globalStep + 1).")
  }

  private func gradientIsNotFinite(_ norm: Double, _ parameter: String) -> TrainingError {
    diverged(
      "The gradient norm became \(Self.name(norm)) at step \(state.globalStep + 1), by the gradient of `\(parameter)`."
    )
  }

  /// Without the bits of a NaN, which nobody wants to know.
  private static func name(_ value: Double) -> String { value.isNaN ? "nan" : "\(value)" }

  private func overflowsAlways(_ parameter: String) -> TrainingError {
    diverged(
      "The gradient of `\(parameter)` overflows float16 at step \(state.globalStep + 1), however little the loss is scaled."
    )
  }

  private func diverged(_ what: String) -> TrainingError {
    let saved =
      lastSavedStep > 0
      ? "The last checkpoint is from step \(lastSavedStep)." : "No checkpoint was written yet."
    let range =
      arguments.fp16
      ? "Numbers above 65,504 do not fit into float16: use bf16 instead of fp16. Or lower" : "Lower"
    return TrainingError(
      "\(what) \(saved) \(range) learning_rate, set max_grad_norm, warm up longer, or look at the rows of this batch with "
        + "`graft inspect --supervision`.")
  }

  // MARK: Between steps

  /// Reports, evaluates and saves as the arguments say.
  private func afterStep(_ result: StepResult, endsEpoch: Bool) throws {
    if !result.loss.isNaN {
      state.pendingLoss += result.loss
      state.pendingSteps += 1
    }
    if let reason = result.skipped {
      try log?.record(SkippedStepReport(step: state.globalStep, reason: reason))
    }
    state.endsEpoch = endsEpoch
    clock.finishStep(tokens: state.tokens)
    try log?.step(report(result, loss: result.loss))

    let logging = arguments.loggingSteps.count(ofTotal: state.maxSteps)
    if isDue(arguments.loggingStrategy, every: logging)
      || (arguments.loggingFirstStep && state.globalStep == 1)
    {
      // Not a number when no step since the last record had a loss.
      try log?.record(report(result, loss: state.pendingLoss / Double(state.pendingSteps)))
      state.pendingLoss = 0
      state.pendingSteps = 0
    }

    let evaluation = (arguments.evalSteps ?? arguments.loggingSteps).count(ofTotal: state.maxSteps)
    // A run that evaluates by steps ends with an evaluation, wherever its last step falls.
    let isLastOfSteps = isLast && arguments.evalStrategy == .steps
    state.evaluationIsDue =
      evalDataset != nil && isPastDelay && (isDue(arguments.evalStrategy, every: evaluation) || isLastOfSteps)
    try evaluateAndSave()
  }

  /// The evaluation that is due, and the checkpoint when one is due then.
  private func evaluateAndSave() throws {
    var improved = false
    if state.evaluationIsDue {
      do {
        improved = try evaluateAndRecord()
      } catch is CancellationError {
        // The checkpoint says that the evaluation is still due: half of the validation data says nothing.
        try interrupt()
      }
      state.evaluationIsDue = false
    }
    guard state.globalStep > 0 else { return }

    let saving = arguments.saveSteps.count(ofTotal: state.maxSteps)
    let isSaveDue =
      switch arguments.saveStrategy {
      case .no: false
      case .steps: state.globalStep % saving == 0 || isLast
      case .epoch: state.endsEpoch || isLast || isOutOfPatience
      case .best: improved
      }
    // The best model can only be loaded at the end when it was saved, on whatever step it fell.
    if isSaveDue || (improved && arguments.loadBestModelAtEnd) { try saveCheckpoint() }
  }

  private var isLast: Bool { state.globalStep >= state.maxSteps }

  private var isOutOfPatience: Bool {
    arguments.earlyStoppingPatience.map { state.evaluationsWithoutImprovement >= $0 } ?? false
  }

  private var isPastDelay: Bool {
    arguments.evalStrategy == .epoch
      ? epochs >= arguments.evalDelay : Double(state.globalStep) >= arguments.evalDelay
  }

  /// A run that ends within an epoch ends the epoch.
  private func isDue(_ strategy: IntervalStrategy, every steps: Int) -> Bool {
    switch strategy {
    case .no: false
    case .steps: steps > 0 && state.globalStep % steps == 0
    case .epoch: state.endsEpoch || isLast
    }
  }

  /// Passes over the data so far.
  var epochs: Double {
    Double(state.position.epoch)
      + Double(
        (state.position.batch + arguments.gradientAccumulationSteps - 1) / arguments.gradientAccumulationSteps
      )
      / Double(stepsPerEpoch)
  }

  private func report(_ result: StepResult, loss: Double) -> StepReport {
    StepReport(
      step: state.globalStep, totalSteps: state.maxSteps, epoch: epochs, loss: loss,
      learningRate: result.learningRate, gradientNorm: result.gradientNorm, tokens: state.tokens,
      supervisedTokens: state.supervisedTokens, tokensPerSecond: clock.tokensPerSecond,
      seconds: clock.seconds,
      secondsLeft: clock.secondsLeft(steps: state.maxSteps - state.globalStep), memory: ProcessMemory.peak,
      skippedSteps: state.skippedSteps, lossScale: state.lossScale?.factor)
  }

  private func interrupt() throws -> Never {
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

  // MARK: Evaluation

  /// The mean loss over the supervised tokens of the validation data.
  ///
  /// - Throws: `CancellationError` when ``shouldStop`` asked for the end.
  public func evaluate() throws -> EvaluationReport {
    guard let evalDataset else {
      throw TrainingError("There is no data to evaluate on; give `validation_file`, or evalDataset.")
    }
    let start = ContinuousClock.now
    let wasTraining = model.isTraining
    model.isTraining = false
    defer { model.isTraining = wasTraining }
    let result = try evaluation(
      of: model, on: evalDataset, objective: objective, batchSize: arguments.perDeviceEvalBatchSize,
      shouldStop: shouldStop)
    var metrics = result.metrics
    for (name, value) in try computeMetrics?(model).sorted(by: { $0.key < $1.key }) ?? [] {
      metrics[name] = value
    }
    return EvaluationReport(
      step: state.globalStep, epoch: epochs, loss: result.loss, supervisedTokens: result.supervisedTokens,
      seconds: start.duration(to: .now).inSeconds, metrics: metrics)
  }

  /// - Returns: whether it is the best so far.
  private func evaluateAndRecord() throws -> Bool {
    clock.pause()
    let report = try evaluate()
    clock.resume()
    try log?.record(report)
    var metrics = ["loss": report.loss]
    for (name, value) in report.metrics { metrics[name] = value }
    let value = try bestMetric(among: metrics)
    // What is not a number is neither the best nor an improvement.
    let improved =
      value.isFinite
      && (state.bestMetric.map { best in arguments.bestMetricIsGreater ? value > best : value < best } ?? true)
    let isEnough =
      state.bestMetric.map { best in abs(value - best) > arguments.earlyStoppingThreshold } ?? true
    state.evaluationsWithoutImprovement = improved && isEnough ? 0 : state.evaluationsWithoutImprovement + 1
    if improved {
      state.bestMetric = value
      state.bestGlobalStep = state.globalStep
    }
    return improved
  }

  /// The value of `metric_for_best_model`.
  private func bestMetric(among metrics: [String: Double]) throws -> Double {
    guard let value = metrics[String(arguments.bestMetric.dropFirst("eval_".count))] else {
      throw TrainingError(
        "`metric_for_best_model` is `\(arguments.bestMetric)`, which the evaluation does not give; it gives "
          + metrics.keys.sorted().map { "`eval_\($0)`" }.joined(separator: ", ")
          + ". Name one of these, or give computeMetrics.")
    }
    return value
  }

  // MARK: Checkpoints

  /// Writes the adapter and everything that going on needs.
  func saveCheckpoint() throws {
    guard lastSavedStep != state.globalStep else { return }
    clock.pause()
    if state.bestGlobalStep == state.globalStep {
      state.bestModelCheckpoint = checkpointURL(state.globalStep).path
    }
    try writeCheckpoint()
    clock.resume()
    lastSavedStep = state.globalStep
    try rotateCheckpoints()
  }

  func markResumed() {
    // An evaluation that is still due changes what the checkpoint says about the best model.
    lastSavedStep = state.evaluationIsDue ? -1 : state.globalStep
  }
}

/// Mean loss over the supervised tokens of `dataset`, without gradients.
///
/// - Throws: `CancellationError` when `shouldStop` asked for the end; ``TrainingError`` when nothing is supervised.
public func evaluationLoss(
  _ model: PEFTModel, _ dataset: any ExampleSource, objective: any Objective = CausalLanguageModeling(),
  batchSize: Int = 8, shouldStop: () -> Bool = { false }
) throws -> (loss: Double, supervisedTokens: Int) {
  let result = try evaluation(
    of: model, on: dataset, objective: objective, batchSize: batchSize, shouldStop: shouldStop)
  return (result.loss, result.supervisedTokens)
}

/// Mean loss and metrics of an objective on `dataset`, without gradients.
///
/// - Throws: `CancellationError` when `shouldStop` asked for the end; ``TrainingError`` when nothing is supervised.
public func evaluation(
  of model: PEFTModel, on dataset: any ExampleSource, objective: any Objective, batchSize: Int = 8,
  shouldStop: () -> Bool = { false }
) throws -> (loss: Double, supervisedTokens: Int, metrics: OrderedDictionary<String, Double>) {
  var predictions = EvaluationPredictions()
  var sum = 0.0
  var supervised = 0
  let count = dataset.lengths.count
  for start in stride(from: 0, to: count, by: batchSize) {
    if shouldStop() { throw CancellationError() }
    let batch = Batch(try (start..<min(start + batchSize, count)).map { try dataset.example(at: $0) })
    let weight = objective.weight(of: batch)
    guard weight > 0 else { continue }
    sum += try withoutGradient { try objective.evaluate(model, batch, into: &predictions) }
    supervised += weight
  }
  guard supervised > 0 else { throw noSupervision(count, "validation") }
  return (sum / Double(supervised), supervised, objective.metrics(predictions))
}

private func noSupervision(_ count: Int, _ role: String) -> TrainingError {
  TrainingError(
    "None of the \(count) \(role) examples has a supervised token, so that there is no loss. Check the file, and "
      + "whether max_length cuts the answers off; `graft inspect --supervision` shows what carries loss.")
}

extension Duration {
  var inSeconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}

/// The time that steps take, without evaluations and saving.
private struct StepClock {
  private var started = ContinuousClock.now
  private var paused: ContinuousClock.Instant?
  private var excluded = Duration.zero
  private var startTokens = 0
  private var tokens = 0
  private var steps = 0

  mutating func start(tokens: Int) {
    started = .now
    excluded = .zero
    paused = nil
    startTokens = tokens
    self.tokens = tokens
    steps = 0
  }

  mutating func finishStep(tokens: Int) {
    self.tokens = tokens
    steps += 1
  }

  mutating func pause() { paused = .now }

  mutating func resume() {
    if let paused { excluded += paused.duration(to: .now) }
    paused = nil
  }

  var seconds: Double { (started.duration(to: .now) - excluded).inSeconds }
  var tokensPerSecond: Double { seconds > 0 ? Double(tokens - startTokens) / seconds : 0 }

  func secondsLeft(steps left: Int) -> Double? {
    steps > 0 ? seconds / Double(steps) * Double(max(left, 0)) : nil
  }
}
