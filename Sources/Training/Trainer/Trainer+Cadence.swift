import Datasets

// What happens between steps, and when.
extension Trainer {
  /// Reports, evaluates and saves as the arguments say.
  func afterStep(_ result: StepResult, endsEpoch: Bool) throws {
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
  func evaluateAndSave() throws {
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

  var isOutOfPatience: Bool {
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
      supervised: state.supervisedTokens, supervisedUnit: objective.supervisedUnit,
      tokensPerSecond: clock.tokensPerSecond,
      seconds: clock.seconds,
      secondsLeft: clock.secondsLeft(steps: state.maxSteps - state.globalStep), memory: ProcessMemory.peak,
      skippedSteps: state.skippedSteps, lossScale: state.lossScale?.factor)
  }
}
