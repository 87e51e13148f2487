import Adapters
import Datasets

extension Trainer {
  /// The mean loss over what is supervised in the validation data.
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
      step: state.globalStep, epoch: epochs, loss: result.loss, supervised: result.supervised,
      supervisedUnit: objective.supervisedUnit,
      seconds: start.duration(to: .now).inSeconds, metrics: metrics)
  }

  /// - Returns: whether it is the best so far.
  func evaluateAndRecord() throws -> Bool {
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
  func bestMetric(among metrics: [String: Double]) throws -> Double {
    guard let value = metrics[String(arguments.bestMetric.dropFirst("eval_".count))] else {
      throw TrainingError(
        "`metric_for_best_model` is `\(arguments.bestMetric)`, which the evaluation does not give; it gives "
          + metrics.keys.sorted().map { "`eval_\($0)`" }.joined(separator: ", ")
          + ". Name one of these, or give computeMetrics.")
    }
    return value
  }
}
