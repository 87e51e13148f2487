import NeuralNetworks
import Torch

/// Loads models that classify text: pretrained ones with their head, and language models with a new one in the place of
/// theirs.
///
/// ```swift
/// let model = try AutoModelForSequenceClassification.fromPretrained("SmolLM2-135M", numLabels: 3)
/// ```
public enum AutoModelForSequenceClassification {
  /// Loads the model at `path`; see ``AutoModelForCausalLM/fromPretrained(_:dtype:device:quantization:)``.
  ///
  /// - Parameters:
  ///   - numLabels: what the model is to tell apart; nil takes what its `config.json` says, 2 when it says nothing.
  ///   - seed: of a new head, see ``fromPretrained(_:labels:dtype:device:quantization:seed:)``.
  public static func fromPretrained(
    _ path: String, numLabels: Int? = nil, dtype: DType? = nil, device: Device = .cpu,
    quantization: BaseQuantization? = nil, seed: UInt64 = 42
  ) throws -> any SequenceClassificationModel {
    if let numLabels, !(1...ClassificationLabels.maximumCount).contains(numLabels) {
      throw ModelError("`num_labels` is \(numLabels); write 1 or more.")
    }
    return try fromPretrained(
      PretrainedSource(path), labels: numLabels.map { ClassificationLabels(count: $0) }, dtype: dtype,
      device: device, quantization: quantization, seed: seed)
  }

  /// Loads the model of `source` with a head for `labels`.
  ///
  /// Where the source has no head for labels, the new one's weight is normal with the deviation `initializer_range` and its
  /// bias zero, as in transformers, and ``SequenceClassificationModel/hasNewHead`` says so.
  ///
  /// - Parameters:
  ///   - labels: what the model tells apart; nil is what `config.json` says. Numbered ones leave a head's own names.
  ///   - seed: of a new head.
  /// - Throws: ``ModelError``, also when the source has a head for another number of labels.
  public static func fromPretrained(
    _ source: PretrainedSource, labels: ClassificationLabels? = nil, dtype: DType? = nil,
    device: Device = .cpu, quantization: BaseQuantization? = nil, seed: UInt64 = 42
  ) throws -> any SequenceClassificationModel {
    try Engine.prepare(device)
    let source = try source.labelled(labels)
    let model = try structure(source)
    if try model.load(source, dtype: dtype, device: device, quantization: quantization) {
      try model.initializeHead(dtype: dtype ?? source.preferredDType, device: device, seed: seed)
    }
    return model
  }

  /// The tree alone, without weights: for printing and counting.
  public static func structure(_ source: PretrainedSource, labels: ClassificationLabels? = nil) throws
    -> any SequenceClassificationModel
  {
    let source = try source.labelled(labels)
    guard
      let model = try source.structure(for: .sequenceClassification) as? any SequenceClassificationModel
    else { throw source.lacks(.sequenceClassification) }
    return model
  }
}

extension PretrainedSource {
  /// The source with `labels` in its configuration.
  fileprivate func labelled(_ labels: ClassificationLabels?) throws -> PretrainedSource {
    guard var labels else { return self }
    if task == .sequenceClassification {
      let own = try ClassificationLabels(configuration)
      guard own.count == labels.count else {
        throw ModelError(
          "The model at \(url.path) tells \(own.count) labels apart (\(own.names.prefix(5).joined(separator: ", "))), and "
            + "\(labels.count) are asked for. Leave `num_labels` out, or start from a model without this head."
        )
      }
      if labels.areNumbered {
        labels = ClassificationLabels(names: own.names, problemType: labels.problemType)
      }
      if labels.problemType == nil { labels.problemType = own.problemType }
    }
    var source = self
    labels.write(to: &source.configuration.json)
    return source
  }
}

extension SequenceClassificationModel {
  /// Fills the head as transformers does: normal with the deviation `initializer_range`, biases zero.
  fileprivate func initializeHead(dtype: DType, device: Device, seed: UInt64) throws {
    let deviation = try configuration.number("initializer_range", default: 0.02)
    guard deviation >= 0 else {
      throw ModelError(
        "`initializer_range` in \(configuration.source) is \(deviation); it cannot be below 0.")
    }
    // On the CPU and from a state of its own, so that a seed means one head on every device, and the caller's random
    // numbers are as they would have been.
    try RandomState.withSeed(seed) {
      for (name, parameter) in head.namedParameters() {
        let shape = parameter.shape
        let value = try name == "bias" ? Tensor.zeros(shape) : .normal(shape, standardDeviation: deviation)
        parameter.value = try value.to(dtype, device: device)
      }
    }
    hasNewHead = true
  }
}
