/// Which base model a run loads, and how.
public struct ModelArguments: ConfigurationGroup {
  /// A model's folder or GGUF file. Required.
  public var modelNameOrPath = ""
  /// Revision recorded with the adapter.
  public var revision: String?
  public var dtype = DTypeChoice.auto
  public var device = "auto"
  /// Folder or file of another tokenizer than the model's.
  public var tokenizerNameOrPath: String?
  /// File of a Jinja template that replaces the model's.
  public var chatTemplatePath: String?
  /// Threads of the engine; nil leaves it to the engine.
  public var numThreads: Int?

  public init() {}

  public static let keys: [ConfigurationKey<ModelArguments>] = {
    let section = "Model"
    return [
      .init(
        "model_name_or_path", in: section, \.modelNameOrPath,
        "Folder of the model, or its GGUF file. Required."),
      .init("revision", in: section, \.revision, "Revision of the model, recorded with the adapter."),
      .init(
        "dtype", in: section, \.dtype,
        "Type in which the base is held and computed; `auto` is the type in its files."),
      .init(
        "device", in: section, \.device,
        "`cpu`, `cuda`, `cuda:1`, `mps`; `auto` is the first GPU, or the processor without one."),
      .init(
        "tokenizer_name_or_path", in: section, \.tokenizerNameOrPath, "Another tokenizer than the model's."),
      .init(
        "chat_template_path", in: section, \.chatTemplatePath,
        "A Jinja file instead of the model's chat template."),
      .init("num_threads", in: section, \.numThreads, "Processor threads; `null` is one for each core."),
    ]
  }()

  /// Checks what can be checked without opening the model.
  ///
  /// - Throws: `ConfigurationError` about the first key that does not fit.
  public func validate() throws {
    guard !modelNameOrPath.isEmpty else {
      throw ConfigurationError(
        "`model_name_or_path` is missing", key: "model_name_or_path",
        remedy: "name the base model's folder or GGUF file")
    }
    guard device.wholeMatch(of: #/auto|cpu|mps|cuda(:[0-9]{1,3})?/#) != nil else {
      throw ConfigurationError(
        "`device` is `\(device)`", key: "device", remedy: "write `auto`, `cpu`, `cuda`, `cuda:0` or `mps`")
    }
    if let numThreads, numThreads < 1 {
      throw ConfigurationError(
        "`num_threads` is \(numThreads)", key: "num_threads", remedy: "write 1 or more")
    }
  }
}

/// `dtype`: the type in which the base is held.
public enum DTypeChoice: String, ConfigurationChoice {
  case auto, float32, bfloat16

  public static let synonyms: [String: DTypeChoice] = [
    "fp32": .float32, "torch.float32": .float32, "float": .float32, "bf16": .bfloat16,
    "torch.bfloat16": .bfloat16,
  ]
}
