import Adapters
import Datasets
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// What a run minimises: a loss over a batch, as a sum over what is supervised.
///
/// Sums, not means: the trainer divides by what the whole accumulation window supervises, so that every token weighs the
/// same in whatever batch it falls.
public protocol Objective {
  /// How much of `batch` is supervised: what the sum is a sum over.
  func weight(of batch: Batch) -> Int

  /// What ``weight(of:)`` counts, in the plural. Tokens by default.
  var supervisedUnit: String { get }

  /// The summed loss, a scalar in fp32.
  func lossSum(_ model: PEFTModel, _ batch: Batch) throws -> Tensor

  // MARK: Evaluation

  /// The summed loss of a batch of validation data, without gradients; what metrics are made of goes into `predictions`. The loss
  /// alone by default.
  func evaluate(_ model: PEFTModel, _ batch: Batch, into predictions: inout EvaluationPredictions) throws
    -> Double

  /// What ``metrics(_:)`` gives, so that `metric_for_best_model` can be checked before the first step. None by default.
  var metricNames: [String] { get }

  /// Metrics of all predictions, by name without `eval_`. None by default.
  func metrics(_ predictions: EvaluationPredictions) -> OrderedDictionary<String, Double>

  /// What a resumed run must agree in, by the keys of the configuration. Nothing by default.
  var fingerprint: [String: String] { get }
}

/// What a model gave for validation data, and what it was to give: transformers' `EvalPrediction`.
public struct EvaluationPredictions: Sendable {
  /// A row for each sequence.
  public var scores: [[Float]] = []
  public var targets: [[Float]] = []

  public init() {}
}

extension Objective {
  public func evaluate(_ model: PEFTModel, _ batch: Batch, into predictions: inout EvaluationPredictions)
    throws -> Double
  {
    try lossSum(model, batch).item()
  }

  public var supervisedUnit: String { "tokens" }
  public var metricNames: [String] { [] }
  public func metrics(_ predictions: EvaluationPredictions) -> OrderedDictionary<String, Double> { [:] }
  public var fingerprint: [String: String] { [:] }
}

extension ModelInput {
  /// One token of so many has to be saved for computing a prefix once to be worth its copies.
  private static let worthwhileShare = 20

  /// The sequences of a batch.
  ///
  /// - Parameter sharesPrefix: whether what all of them begin with may be computed once.
  init(_ batch: Batch, device: Device, sharesPrefix: Bool = true) throws {
    try self.init(
      tokens: Tensor(batch.tokens.map(Int64.init), device: device),
      layout: RaggedLayout(
        offsets: batch.offsets.map(Int.init), positions: batch.positions, device: device))
    let saved = batch.sharedPrefix * (batch.sequences - 1)
    if sharesPrefix, saved * Self.worthwhileShare >= batch.tokens.count { sharedPrefix = batch.sharedPrefix }
  }
}

/// Next-token prediction over the supervised tokens: supervised fine-tuning and continued pre-training.
public struct CausalLanguageModeling: Objective {
  public init() {}

  public func weight(of batch: Batch) -> Int { batch.supervisedTokens }

  public func lossSum(_ model: PEFTModel, _ batch: Batch) throws -> Tensor {
    let base = try model.causalLanguageModel()
    let supervision = Supervision(
      labels: batch.labels, offsets: batch.offsets.map(Int.init), ignoreIndex: ignoreIndex)
    let states = try base.hiddenStates(
      ModelInput(batch, device: base.device), tokens: supervision.rows(on: base.device))
    return try causalLossSum(states: states, supervision: supervision, head: base.outputEmbedding)
  }
}
