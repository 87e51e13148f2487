import JSON
import OrderedCollections

/// What one optimizer step, or the steps since the last record, came to.
public struct StepReport: Sendable, Hashable {
  /// Optimizer steps done, from 1.
  public var step: Int
  /// Steps of the whole run.
  public var totalSteps: Int
  /// Passes over the data so far.
  public var epoch: Double
  /// Mean loss of the supervised tokens; NaN when there were none.
  public var loss: Double
  public var learningRate: Double
  /// Global norm of the gradients before clipping.
  public var gradientNorm: Double
  /// Tokens processed since the run began, prompts included.
  public var tokens: Int
  /// Of these, the ones with a label.
  public var supervisedTokens: Int
  public var tokensPerSecond: Double
  /// Time of training so far, in this process.
  public var seconds: Double
  /// Time that the rest will take; nil until it can be told.
  public var secondsLeft: Double?
  /// Peak memory of the device in bytes.
  public var memory: Int
  /// Steps so far that updated nothing.
  public var skippedSteps: Int
  /// What the loss is multiplied by under fp16; nil elsewhere.
  public var lossScale: Double?

  public init(
    step: Int, totalSteps: Int, epoch: Double, loss: Double, learningRate: Double, gradientNorm: Double,
    tokens: Int, supervisedTokens: Int, tokensPerSecond: Double, seconds: Double, secondsLeft: Double? = nil,
    memory: Int, skippedSteps: Int = 0, lossScale: Double? = nil
  ) {
    self.step = step
    self.totalSteps = totalSteps
    self.epoch = epoch
    self.loss = loss
    self.learningRate = learningRate
    self.gradientNorm = gradientNorm
    self.tokens = tokens
    self.supervisedTokens = supervisedTokens
    self.tokensPerSecond = tokensPerSecond
    self.seconds = seconds
    self.secondsLeft = secondsLeft
    self.memory = memory
    self.skippedSteps = skippedSteps
    self.lossScale = lossScale
  }

  /// The values to record, by the names that transformers' log history gives them.
  var values: OrderedDictionary<String, Double> {
    var values: OrderedDictionary<String, Double> = [
      "loss": loss, "learning_rate": learningRate, "grad_norm": gradientNorm, "epoch": epoch,
      "tokens": Double(tokens), "supervised_tokens": Double(supervisedTokens),
      "tokens_per_second": tokensPerSecond, "seconds": seconds, "memory_bytes": Double(memory),
    ]
    if skippedSteps > 0 { values["skipped_steps"] = Double(skippedSteps) }
    if let lossScale { values["loss_scale"] = lossScale }
    return values
  }
}

/// A step that updated nothing, and why.
public struct SkippedStepReport: Sendable, Hashable {
  public enum Reason: Sendable, Hashable {
    /// No token of its batches carried loss.
    case nothingSupervised
    /// A gradient was too large for fp16: that of `parameter` first, under a loss multiplied by `lossScale`.
    case overflow(parameter: String, lossScale: Double)
  }

  public var step: Int
  public var reason: Reason

  public init(step: Int, reason: Reason) {
    self.step = step
    self.reason = reason
  }
}

/// What an evaluation came to.
public struct EvaluationReport: Sendable, Hashable {
  /// Optimizer steps done when it ran.
  public var step: Int
  public var epoch: Double
  /// Mean loss of the supervised tokens of the validation data.
  public var loss: Double
  /// Supervised tokens it is the mean of.
  public var supervisedTokens: Int
  public var seconds: Double
  /// Other metrics, by name without `eval_`.
  public var metrics: OrderedDictionary<String, Double>

  public init(
    step: Int, epoch: Double, loss: Double, supervisedTokens: Int, seconds: Double,
    metrics: OrderedDictionary<String, Double> = [:]
  ) {
    self.step = step
    self.epoch = epoch
    self.loss = loss
    self.supervisedTokens = supervisedTokens
    self.seconds = seconds
    self.metrics = metrics
  }

  /// The values to record, by name without `eval_`.
  var values: OrderedDictionary<String, Double> {
    var values: OrderedDictionary<String, Double> = [
      "loss": loss, "supervised_tokens": Double(supervisedTokens), "seconds": seconds,
    ]
    for (name, value) in metrics { values[name] = value }
    return values
  }
}
