import Adapters
import Datasets
import NeuralNetworks
import Torch

extension Trainer {
  struct StepResult {
    /// Mean loss of the supervised tokens; NaN when there are none.
    var loss: Double
    var gradientNorm: Double
    var learningRate: Double
    /// Why nothing was updated; nil when the parameters were.
    var skipped: SkippedStepReport.Reason?
  }

  /// One optimizer step over the batches of an accumulation window.
  func step(_ window: [Batch]) throws -> StepResult {
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
    let passes = window.flatMap {
      $0.split(maxTokens: tokensPerPass, sharesPrefix: model.base.backbone.sharesPrefixes)
    }
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

  func batch(_ indices: ArraySlice<Int32>) throws -> Batch {
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
}
