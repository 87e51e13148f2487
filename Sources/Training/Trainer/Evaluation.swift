import Adapters
import Datasets
import OrderedCollections
import Torch

/// Mean loss over the supervised tokens of `dataset`, without gradients.
///
/// - Throws: `CancellationError` when `shouldStop` asked for the end; ``TrainingError`` when nothing is supervised.
public func evaluationLoss(
  _ model: PEFTModel, _ dataset: any ExampleSource, objective: any Objective = CausalLanguageModeling(),
  batchSize: Int = 8, shouldStop: () -> Bool = { false }
) throws -> (loss: Double, supervised: Int) {
  let result = try evaluation(
    of: model, on: dataset, objective: objective, batchSize: batchSize, shouldStop: shouldStop)
  return (result.loss, result.supervised)
}

/// Mean loss and metrics of an objective on `dataset`, without gradients.
///
/// - Throws: `CancellationError` when `shouldStop` asked for the end; ``TrainingError`` when nothing is supervised.
public func evaluation(
  of model: PEFTModel, on dataset: any ExampleSource, objective: any Objective, batchSize: Int = 8,
  shouldStop: () -> Bool = { false }
) throws -> (loss: Double, supervised: Int, metrics: OrderedDictionary<String, Double>) {
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

func noSupervision(_ count: Int, _ role: String) -> TrainingError {
  TrainingError(
    "None of the \(count) \(role) examples has a supervised token, so that there is no loss. Check the file, and "
      + "whether max_length cuts the answers off; `graft inspect --supervision` shows what carries loss.")
}
