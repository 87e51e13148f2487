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
  /// - Throws: an error that names what is missing, of the wrong shape or unknown.
  public static func fromPretrained(_ path: String, dtype: DType? = nil, device: Device = .cpu) throws
    -> any CausalLanguageModel
  {
    try fromPretrained(PretrainedSource(path), dtype: dtype, device: device)
  }

  public static func fromPretrained(_ source: PretrainedSource, dtype: DType? = nil, device: Device = .cpu)
    throws
    -> any CausalLanguageModel
  {
    try Engine.prepare(device)
    let model = try structure(source)
    try model.load(from: source, dtype: dtype ?? source.preferredDType, device: device)
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

extension CausalLanguageModel {
  /// Fills every parameter, after checking that names and shapes fit.
  fileprivate func load(from source: PretrainedSource, dtype: DType, device: Device) throws {
    let stored = Set(source.tensorNames)
    var named: [String: Parameter] = [:]
    var order: [String] = []
    var seen: Set<ObjectIdentifier> = []
    var aliases: Set<String> = []
    for (name, parameter) in namedParameters() {
      if seen.insert(ObjectIdentifier(parameter)).inserted {
        named[name] = parameter
        order.append(name)
      } else {
        aliases.insert(name)  // tied: a second copy in the file is the same weight
      }
    }

    for name in order {
      guard let shape = try source.shape(name) else {
        let tied =
          name == "lm_head.weight" ? "; set `tie_word_embeddings` if it is the input embedding," : ","
        throw ModelError(
          "`\(name)` is missing from the weights at \(source.url.path)\(tied) or download the model again.")
      }
      let wanted = named[name]!.shape
      guard shape == wanted else {
        throw ModelError(
          "`\(name)` at \(source.url.path) has the shape \(shape), and \(source.configuration.source) makes it \(wanted). "
            + "Weights and configuration are not of one model.")
      }
    }
    for name in order { try source.checkType(name) }
    // Older checkpoints store what the model computes by itself.
    let unused = stored.subtracting(order).subtracting(aliases).filter {
      !$0.hasSuffix("rotary_emb.inv_freq")
    }
    guard unused.isEmpty else {
      let names = unused.sorted().prefix(3).map { "`\($0)`" }.joined(separator: ", ")
      throw ModelError(
        "The weights at \(source.url.path) hold \(unused.count) tensors that a \(typeName) of this configuration does "
          + "not have, such as \(names). Check `architectures` and `model_type` in \(source.configuration.source)."
      )
    }

    for name in order {
      named[name]!.value = try source.tensor(name, dtype: dtype).to(dtype, device: device)
    }
  }
}
