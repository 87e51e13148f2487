import Foundation
import Models
import Torch

/// Loads base models with the adapters trained on them, for the task that the adapters are for.
public enum AutoPEFTModel {
  /// Loads the model at `source` with a head for the adapters' task, and puts the adapters on it; the first is active.
  ///
  /// - Parameter adapters: names and folders; none is the model for its own task.
  /// - Throws: an error that says which file does not fit, also for adapters of another task than the first one's.
  public static func fromPretrained(
    _ source: PretrainedSource, adapters: [(name: String, folder: String)], dtype: DType? = nil,
    device: Device = .cpu, quantization: BaseQuantization? = nil
  ) throws -> PEFTModel {
    let (task, labels) = try task(of: adapters.map(\.folder), on: source)
    let base = try AutoModel.fromPretrained(
      source, task: task, labels: labels, dtype: dtype, device: device, quantization: quantization)
    let model = try PEFTModel(base)
    for adapter in adapters { try model.loadAdapter(adapter.folder, name: adapter.name) }
    return model
  }

  /// Loads the base that the adapter at `path` names, and the adapter on it.
  ///
  /// - Parameter baseModel: another path for the base, when it has moved.
  public static func fromPretrained(
    _ path: String, baseModel: String? = nil, dtype: DType? = nil, device: Device = .cpu
  ) throws -> PEFTModel {
    let directory = URL(fileURLWithPath: path, isDirectory: true)
    let configuration = try PEFTModel.readConfiguration(directory)
    let named = configuration.common.baseModelNameOrPath
    guard let base = try baseModel ?? named.map({ try BaseModelLocation.resolve($0, adapter: directory) })
    else {
      throw AdapterError(
        "The adapter at \(path) does not say which base model it is for (`base_model_name_or_path`); name it."
      )
    }
    return try fromPretrained(
      PretrainedSource(base), adapters: [("default", path)], dtype: dtype, device: device)
  }

  /// What adapters and base are for, and what a classifier tells apart.
  ///
  /// - Parameter adapters: their folders.
  public static func task(of adapters: [String], on source: PretrainedSource) throws
    -> (task: ModelTask, labels: ClassificationLabels?)
  {
    for folder in adapters.map({ URL(fileURLWithPath: $0, isDirectory: true) }) {
      let stated = try PEFTModel.readConfiguration(folder).common.taskType
      guard let task = stated.flatMap(ModelTask.init) else { continue }
      return (task, task == .causalLM ? nil : try ClassificationLabels(adapter: folder))
    }
    return (source.task, nil)
  }
}

/// Loads a language model and the adapter trained on it in one call: PEFT's `AutoPeftModelForCausalLM`.
public enum AutoPEFTModelForCausalLM {
  /// See ``AutoPEFTModel/fromPretrained(_:baseModel:dtype:device:)``.
  ///
  /// - Throws: ``ModelError`` for an adapter that gives texts labels.
  public static func fromPretrained(
    _ path: String, baseModel: String? = nil, dtype: DType? = nil, device: Device = .cpu
  ) throws -> PEFTModel {
    let model = try AutoPEFTModel.fromPretrained(path, baseModel: baseModel, dtype: dtype, device: device)
    _ = try model.causalLanguageModel()
    return model
  }
}

/// Loads a classifier and the adapter trained on it in one call: PEFT's `AutoPeftModelForSequenceClassification`. How many
/// labels there are the adapter's files say.
public enum AutoPEFTModelForSequenceClassification {
  /// See ``AutoPEFTModel/fromPretrained(_:baseModel:dtype:device:)``.
  ///
  /// - Throws: ``ModelError`` for an adapter that writes text.
  public static func fromPretrained(
    _ path: String, baseModel: String? = nil, dtype: DType? = nil, device: Device = .cpu
  ) throws -> PEFTModel {
    let model = try AutoPEFTModel.fromPretrained(path, baseModel: baseModel, dtype: dtype, device: device)
    _ = try model.sequenceClassificationModel()
    return model
  }
}
