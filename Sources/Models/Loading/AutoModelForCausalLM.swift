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
    try WeightLoader(
      model, source: source, dtype: dtype ?? source.preferredDType, device: device, quantization: quantization
    ).load()
    try model.optimizeLayout()
    source.releasePages()
    return model
  }

  /// The tree alone, without weights: for printing and counting.
  public static func structure(_ source: PretrainedSource) throws -> any CausalLanguageModel {
    do {
      return try source.family.make(source.configuration, source.family)
    } catch let error as TorchError {
      throw ModelError(
        "The sizes in \(source.configuration.source) make tensors that no memory holds (\(error)). Download the file again."
      )
    }
  }
}
