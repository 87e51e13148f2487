import Datasets
import Foundation
import Models

// Data says what a label looks like, a model what its scores mean: one goes with the other.

extension LabelSet.Kind {
  public init(_ problemType: ClassificationLabels.ProblemType) {
    self =
      switch problemType {
      case .singleLabel: .oneOf
      case .multiLabel: .anyOf
      case .regression: .numbers
      }
  }
}

extension ClassificationLabels.ProblemType {
  public init(_ kind: LabelSet.Kind) {
    self =
      switch kind {
      case .oneOf: .singleLabel
      case .anyOf: .multiLabel
      case .numbers: .regression
      }
  }
}

extension LabelSet {
  /// The labels of data that a model is trained or measured on: the model's own, as far as it has them, then those of the data.
  ///
  /// - Parameters:
  ///   - model: what the model's files say; nil for one without a head for labels.
  ///   - numLabels, problemType: what the user says, which wins.
  ///   - column: of the labels; nil is `label`.
  /// - Throws: `DataError` for rows that do not fit; ``TrainingError`` for another number of labels than the model's.
  public init(
    of files: [DataFile], for model: ClassificationLabels?, numLabels: Int? = nil,
    problemType: ClassificationLabels.ProblemType? = nil, column: String? = nil, limit: Int? = nil
  ) throws {
    if let model, let numLabels, numLabels != model.count {
      throw TrainingError(
        "`num_labels` is \(numLabels), and the model's head tells \(model.count) labels apart "
          + "(\(model.names.prefix(5).joined(separator: ", "))). Leave num_labels out, or start from a model without this head."
      )
    }
    // As transformers has it: one score is a number.
    let count = numLabels ?? model?.count
    let known = problemType ?? model?.problemType ?? (count == 1 ? .regression : nil)
    try self.init(
      of: files, column: column ?? LabelledFormat.labelColumn,
      expecting: Expectation(
        kind: known.map(Kind.init), count: count,
        names: model.flatMap { $0.areNumbered ? nil : $0.names }),
      limit: limit)
  }
}

extension ClassificationLabels {
  /// What a model is to tell apart that learns these labels.
  public init(_ labels: LabelSet) {
    self.init(names: labels.names, problemType: ProblemType(labels.kind))
  }

  /// How the scores of labels become probabilities, and the ones that are right: see ``SequenceClassification``.
  ///
  /// - Parameter scores: of one text.
  /// - Returns: a value for each label, which for numbers is the number itself, and the ids of the labels that are right.
  func reading(_ scores: [Float]) -> (values: [Double], right: [Int]) {
    let scores = scores.map(Double.init)
    switch problemType {
    case .regression: return (scores, [])
    case .multiLabel:
      let probabilities = scores.map { 1 / (1 + exp(-$0)) }
      return (probabilities, probabilities.indices.filter { scores[$0] > 0 })
    case .singleLabel, nil:
      let largest = scores.max() ?? 0
      let powers = scores.map { exp($0 - largest) }
      let sum = powers.reduce(0, +)
      return (powers.map { $0 / sum }, scores.firstIndex(of: largest).map { [$0] } ?? [])
    }
  }
}
