import NeuralNetworks
import Torch

/// Loads pretrained language models by what their files say they are.
public enum AutoModelForCausalLM {
  /// Loads the model at `path`: a Hugging Face directory (safetensors, sharded or not, or `.bin`) or a GGUF file.
  ///
  /// The weights are frozen. Those that need no conversion are mapped from the file rather than copied.
  ///
  /// - Parameters:
  ///   - dtype: the type to compute in; nil takes the one the weights were saved in (bfloat16 for quantized GGUF).
  ///   - quantization: quantizes linear layers while they are read, or leaves the blocks of a GGUF file packed. Checkpoints
  ///     that bitsandbytes quantized stay so by themselves.
  /// - Throws: an error that names what is missing, of the wrong shape or unknown.
  public static func fromPretrained(
    _ path: String, dtype: DType? = nil, device: Device = .cpu, quantization: BaseQuantization? = nil
  ) throws -> any CausalLanguageModel {
    try fromPretrained(PretrainedSource(path), dtype: dtype, device: device, quantization: quantization)
  }

  public static func fromPretrained(
    _ source: PretrainedSource, dtype: DType? = nil, device: Device = .cpu,
    quantization: BaseQuantization? = nil
  ) throws -> any CausalLanguageModel {
    try Engine.prepare(device)
    let model = try structure(source)
    try model.load(source, dtype: dtype, device: device, quantization: quantization)
    return model
  }

  /// The tree alone, without weights: for printing and counting.
  public static func structure(_ source: PretrainedSource) throws -> any CausalLanguageModel {
    guard source.task == .causalLM else {
      throw ModelError(
        "The model at \(source.url.path) is a \(source.family.architecture(source.task)), which gives texts labels and writes "
          + "none. Classify with it (`graft classify`), or name a model that generates.")
    }
    guard let model = try source.structure(for: .causalLM) as? any CausalLanguageModel else {
      throw source.lacks(.causalLM)
    }
    return model
  }
}

/// Loads the model of whatever task a program has chosen, or the files say.
public enum AutoModel {
  /// - Parameters:
  ///   - task: nil takes the one that the files are for.
  ///   - labels: what a new classifier is to tell apart, see ``AutoModelForSequenceClassification``.
  ///   - seed: of a head that the files do not have.
  public static func fromPretrained(
    _ source: PretrainedSource, task: ModelTask? = nil, labels: ClassificationLabels? = nil,
    dtype: DType? = nil, device: Device = .cpu, quantization: BaseQuantization? = nil, seed: UInt64 = 42
  ) throws -> any PretrainedModel {
    switch task ?? source.task {
    case .causalLM:
      try AutoModelForCausalLM.fromPretrained(
        source, dtype: dtype, device: device, quantization: quantization)
    case .sequenceClassification:
      try AutoModelForSequenceClassification.fromPretrained(
        source, labels: labels, dtype: dtype, device: device, quantization: quantization, seed: seed)
    }
  }

  /// The tree alone, without weights.
  public static func structure(
    _ source: PretrainedSource, task: ModelTask? = nil, labels: ClassificationLabels? = nil
  ) throws -> any PretrainedModel {
    switch task ?? source.task {
    case .causalLM: try AutoModelForCausalLM.structure(source)
    case .sequenceClassification: try AutoModelForSequenceClassification.structure(source, labels: labels)
    }
  }
}

extension PretrainedSource {
  /// The tree of a task's model.
  func structure(for task: ModelTask) throws -> any PretrainedModel {
    do {
      return try family.make(configuration, family, task)
    } catch let error as TorchError {
      throw ModelError(
        "The sizes in \(configuration.source) make tensors that no memory holds (\(error)). Download the file again."
      )
    }
  }

  func lacks(_ task: ModelTask) -> ModelError {
    ModelError(
      "The model at \(url.path) is of the family \(family.className), which has no \(family.architecture(task))."
    )
  }
}

extension PretrainedModel {
  /// Fills the tree.
  ///
  /// - Returns: whether the head's parameters are to be made, as the source has none.
  @discardableResult
  func load(
    _ source: PretrainedSource, dtype: DType?, device: Device, quantization: BaseQuantization?
  ) throws -> Bool {
    let loader = try WeightLoader(
      self, source: source, dtype: dtype ?? source.preferredDType, device: device, quantization: quantization)
    try loader.load()
    try fuseProjections()
    source.releasePages()
    return loader.lacksHead
  }
}
