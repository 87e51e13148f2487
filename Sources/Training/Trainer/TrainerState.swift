import Datasets
import JSON

/// Where a run stands, as `trainer_state.json` in its checkpoints keeps it.
public struct TrainerState: Codable, Sendable, Hashable {
  /// Optimizer steps done.
  public var globalStep = 0
  /// Optimizer steps of the whole run.
  public var maxSteps = 0
  /// The batch that comes next.
  public var position = DataPosition()
  /// Whether the last step ended a pass over the data.
  public var endsEpoch = false
  /// Whether the evaluation of this step was cut short, and is to be made when the run goes on.
  public var evaluationIsDue = false
  /// Tokens processed, and those of them that carried loss.
  public var tokens = 0
  public var supervisedTokens = 0
  /// Steps of those done that updated nothing, for instance because no token was supervised.
  public var skippedSteps = 0
  /// What the loss is multiplied by under fp16; nil elsewhere.
  public var lossScale: LossScale?
  /// Sum and number of the losses since the last record.
  public var pendingLoss = 0.0
  public var pendingSteps = 0

  /// The best value of `metric_for_best_model` so far, and the step it belongs to.
  public var bestMetric: Double?
  public var bestGlobalStep: Int?
  /// The best checkpoint among those that were written.
  public var bestModelCheckpoint: String?
  /// Evaluations since then.
  public var evaluationsWithoutImprovement = 0

  /// What the order of the data and the updates depend on; a run that resumes must agree.
  public var fingerprint: [String: String] = [:]
}
