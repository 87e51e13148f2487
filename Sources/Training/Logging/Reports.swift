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
  /// Mean loss of what is supervised; NaN when nothing was.
  public var loss: Double
  public var learningRate: Double
  /// Global norm of the gradients before clipping.
  public var gradientNorm: Double
  /// Tokens processed since the run began, prompts included.
  public var tokens: Int
  /// How much was supervised since the run began, in ``supervisedUnit``.
  public var supervised: Int
  /// ``Objective/supervisedUnit``: tokens, or examples.
  public var supervisedUnit: String
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
    tokens: Int, supervised: Int, supervisedUnit: String = "tokens", tokensPerSecond: Double, seconds: Double,
    secondsLeft: Double? = nil, memory: Int, skippedSteps: Int = 0, lossScale: Double? = nil
  ) {
    self.step = step
    self.totalSteps = totalSteps
    self.epoch = epoch
    self.loss = loss
    self.learningRate = learningRate
    self.gradientNorm = gradientNorm
    self.tokens = tokens
    self.supervised = supervised
    self.supervisedUnit = supervisedUnit
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
      "tokens": Double(tokens), "supervised_\(supervisedUnit)": Double(supervised),
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
  /// Mean loss of what is supervised in the validation data.
  public var loss: Double
  /// Of how much it is the mean, in ``supervisedUnit``.
  public var supervised: Int
  /// ``Objective/supervisedUnit``: tokens, or examples.
  public var supervisedUnit: String
  public var seconds: Double
  /// Other metrics, by name without `eval_`.
  public var metrics: OrderedDictionary<String, Double>

  public init(
    step: Int, epoch: Double, loss: Double, supervised: Int, supervisedUnit: String = "tokens",
    seconds: Double,
    metrics: OrderedDictionary<String, Double> = [:]
  ) {
    self.step = step
    self.epoch = epoch
    self.loss = loss
    self.supervised = supervised
    self.supervisedUnit = supervisedUnit
    self.seconds = seconds
    self.metrics = metrics
  }

  /// The values to record, by name without `eval_`.
  var values: OrderedDictionary<String, Double> {
    var values: OrderedDictionary<String, Double> = [
      "loss": loss, "supervised_\(supervisedUnit)": Double(supervised), "seconds": seconds,
    ]
    for (name, value) in metrics { values[name] = value }
    return values
  }
}
