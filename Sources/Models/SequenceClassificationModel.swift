import JSON
import NeuralNetworks
import Torch

/// A model that gives each sequence of a batch labels, or numbers.
public protocol SequenceClassificationModel: PretrainedModel {
  /// What it tells apart.
  var labels: ClassificationLabels { get }

  /// Whether the head came from no checkpoint: it starts at random, and wants training.
  var hasNewHead: Bool { get set }
}

extension SequenceClassificationModel {
  public var task: ModelTask { .sequenceClassification }

  public func complete(_ json: inout JSONValue) {
    json["architectures"] = [.string(family.architecture(task))]
    labels.write(to: &json)
  }
}
