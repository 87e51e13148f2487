import Adapters
import Datasets
import Models
import OrderedCollections
import Torch

/// Labels or numbers for whole texts, with the losses of transformers' `ForSequenceClassification` models.
///
/// With x the scores `[N, L]` of N texts, and y what they are to be:
/// - one label is right: −log softmax(x)_y,
/// - each label is right or not: the mean over labels of −y log σ(x) − (1 − y) log(1 − σ(x)),
/// - numbers: the mean over them of (x − y)².
public struct SequenceClassification: Objective {
  public typealias ProblemType = ClassificationLabels.ProblemType

  public let problemType: ProblemType
  public let labels: [String]

  public init(_ problemType: ProblemType, labels: [String]) {
    self.problemType = problemType
    self.labels = labels
  }

  public func weight(of batch: Batch) -> Int { batch.targets.isEmpty ? 0 : batch.sequences }

  public var supervisedUnit: String { "examples" }

  public func lossSum(_ model: PEFTModel, _ batch: Batch) throws -> Tensor {
    try lossSum(scores(model, batch), batch)
  }

  /// `[N, L]` in fp32.
  private func scores(_ model: PEFTModel, _ batch: Batch) throws -> Tensor {
    let base = try model.sequenceClassificationModel()
    return try base.logits(ModelInput(batch, device: base.device)).to(.float32)
  }

  private func lossSum(_ scores: Tensor, _ batch: Batch) throws -> Tensor {
    let targets = try Tensor(batch.targets, device: scores.device)
    guard problemType != .singleLabel else { return try scores.crossEntropySum(targets.to(.int64)) }
    let wanted = try targets.reshaped(scores.shape)
    let width = Double(max(scores.size(1), 1))
    guard problemType == .multiLabel else { return try (scores - wanted).squared().sum() / width }
    // log(1 + eˣ) − y x, of which no exponential overflows.
    let softplus = try scores.relu() + ((-scores.absolute()).exp() + 1).log()
    return try (softplus - scores * wanted).sum() / width
  }

  // MARK: Evaluation

  public func evaluate(_ model: PEFTModel, _ batch: Batch, into predictions: inout EvaluationPredictions)
    throws -> Double
  {
    let scores = try scores(model, batch)
    let width = batch.targets.count / max(batch.sequences, 1)
    for (index, row) in try scores.rows().enumerated() {
      predictions.scores.append(row)
      predictions.targets.append(Array(batch.targets[index * width..<(index + 1) * width]))
    }
    return try lossSum(scores, batch).item()
  }

  public var metricNames: [String] {
    problemType == .regression ? RegressionMetrics.names : ClassificationMetrics.names
  }

  public func metrics(_ predictions: EvaluationPredictions) -> OrderedDictionary<String, Double> {
    let (scores, targets) = (predictions.scores, predictions.targets)
    switch problemType {
    case .singleLabel:
      return ClassificationMetrics.ofClasses(
        predicted: scores.map(\.indexOfMaximum), wanted: targets.map { Int($0[0]) })
    case .multiLabel:
      // A probability of a half is a score of zero.
      return ClassificationMetrics.ofLabels(
        predicted: scores.map { $0.map { $0 > 0 } }, wanted: targets.map { $0.map { $0 > 0.5 } })
    case .regression:
      return RegressionMetrics.of(predicted: scores, wanted: targets)
    }
  }

  public var fingerprint: [String: String] {
    ["problem_type": problemType.rawValue, "labels": labels.joined(separator: ", ")]
  }
}

extension Tensor {
  /// The rows of a matrix.
  func rows() throws -> [[Float]] {
    let (values, width) = (try detached().floats(), size(1))
    return (0..<size(0)).map { Array(values[$0 * width..<($0 + 1) * width]) }
  }
}

extension Array where Element == Float {
  /// The first of the largest elements.
  var indexOfMaximum: Int { indices.max { self[$0] < self[$1] } ?? 0 }
}
