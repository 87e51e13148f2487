import Models
import Torch

/// Which base model a run loads, and how.
public struct ModelArguments: ConfigurationGroup {
  /// A model's folder or GGUF file. Required.
  public var modelNameOrPath = ""
  /// Revision recorded with the adapter.
  public var revision: String?
  public var dtype = DTypeChoice.auto
  /// Labels that a classifier tells apart; nil goes by the model and the data.
  public var numLabels: Int?
  /// What a classifier's labels are; nil goes by the model and the data.
  public var problemType: ProblemTypeChoice?
  /// Quantizes linear layers to four bits while they are read.
  public var loadIn4bit = false
  /// Quantizes linear layers to signed bytes while they are read.
  public var loadIn8bit = false
  /// Multiplies bytes over a base in signed bytes.
  public var int8Matmul = false
  public var bnb4bitQuantType = QuantTypeChoice.nf4
  public var bnb4bitUseDoubleQuant = false
  /// `auto` is `dtype`.
  public var bnb4bitComputeDtype = DTypeChoice.auto
  /// Starts LoRA at what quantizing took from the base.
  public var replaceLoraWeightsLoftq = false
  /// Leaves the blocks of a GGUF file packed.
  public var ggufPacked = false
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
        "num_labels", in: section, \.numLabels,
        "With `task_type: SEQ_CLS`: labels to tell apart; `null` goes by the model and the data."),
      .init(
        "problem_type", in: section, \.problemType,
        "With `task_type: SEQ_CLS`: one label a text (cross-entropy), any number of them (binary cross-entropy), or numbers "
          + "(squared error); `null` goes by the model and the data."),
      .init(
        "load_in_4bit", in: section, \.loadIn4bit,
        "Quantize the base's linear layers to four bits while it is read (QLoRA); the output embedding stays as it is."
      ),
      .init(
        "load_in_8bit", in: section, \.loadIn8bit,
        "Quantize the base's linear layers to signed bytes, row by row; the weights alone."),
      .init(
        "int8_matmul", in: section, \.int8Matmul,
        "With `load_in_8bit`: quantize the inputs of these layers and their gradients too, token by token, and multiply bytes (arXiv "
          + "2304.13013): faster, on processors with AVX-512 VNNI, and less exact."),
      .init(
        "bnb_4bit_quant_type", in: section, \.bnb4bitQuantType,
        "Values of four bits: `nf4`, quantiles of a normal distribution, or `fp4`, a floating-point number."),
      .init(
        "bnb_4bit_use_double_quant", in: section, \.bnb4bitUseDoubleQuant,
        "Quantize the constants of the blocks too: 4.13 instead of 4.5 bits an element."),
      .init(
        "bnb_4bit_compute_dtype", in: section, \.bnb4bitComputeDtype,
        "Type in which four-bit layers multiply; `auto` is the base's `dtype`."),
      .init(
        "replace_lora_weights_loftq", in: section, \.replaceLoraWeightsLoftq,
        "With `load_in_4bit` or `load_in_8bit`: start a plain LoRA at what quantizing took from the base (LoftQ, arXiv 2310.08659), "
          + "instead of at zero."),
      .init(
        "gguf_packed", in: section, \.ggufPacked,
        "Keep the blocks of a GGUF base packed, mapped from the file, instead of unpacking them to `dtype`: same numbers, "
          + "less memory."),
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
    guard !loadIn4bit || !loadIn8bit else {
      throw ConfigurationError(
        "`load_in_4bit` and `load_in_8bit` are both true", key: "load_in_8bit",
        remedy: "remove one of the two")
    }
    guard !int8Matmul || loadIn8bit else {
      throw ConfigurationError(
        "`int8_matmul` multiplies the bytes of a base in `load_in_8bit`, and that is not set",
        key: "int8_matmul",
        remedy: "write `load_in_8bit: true`, or leave `int8_matmul` out")
    }
    guard !ggufPacked || !(loadIn4bit || loadIn8bit) else {
      throw ConfigurationError(
        "`gguf_packed` keeps the file's own quantization, and `\(loadIn4bit ? "load_in_4bit" : "load_in_8bit")` asks for "
          + "another", key: "gguf_packed", remedy: "remove one of the two")
    }
    guard !replaceLoraWeightsLoftq || loadIn4bit || loadIn8bit else {
      throw ConfigurationError(
        "`replace_lora_weights_loftq` makes up for quantizing, and the base is not quantized",
        key: "replace_lora_weights_loftq",
        remedy: "write `load_in_4bit: true`, or `init_lora_weights: loftq`, which quantizes by itself")
    }
    guard device.wholeMatch(of: #/auto|cpu|mps|cuda(:[0-9]{1,3})?/#) != nil else {
      throw ConfigurationError(
        "`device` is `\(device)`", key: "device", remedy: "write `auto`, `cpu`, `cuda`, `cuda:0` or `mps`")
    }
    if let numLabels, !(1...ClassificationLabels.maximumCount).contains(numLabels) {
      throw ConfigurationError(
        "`num_labels` is \(numLabels)", key: "num_labels", remedy: "write 1 or more, or `null`")
    }
    if let numThreads, numThreads < 1 {
      throw ConfigurationError(
        "`num_threads` is \(numThreads)", key: "num_threads", remedy: "write 1 or more")
    }
  }
}

extension ModelArguments {
  /// What is done to the base's weights while they are read; nil leaves them as `dtype` says.
  public var quantization: BaseQuantization? {
    if ggufPacked { return .packed }
    if loadIn8bit { return .bitsAndBytes(BitsAndBytesConfig(.int8, multipliesBytes: int8Matmul)) }
    guard loadIn4bit else { return nil }
    return .bitsAndBytes(
      BitsAndBytesConfig(
        .fourBit(bnb4bitQuantType.type, doubleQuantization: bnb4bitUseDoubleQuant),
        computeType: bnb4bitComputeDtype.type))
  }
}

/// `problem_type`: what a classifier's labels are.
public enum ProblemTypeChoice: String, ConfigurationChoice {
  case singleLabel = "single_label_classification"
  case multiLabel = "multi_label_classification"
  case regression

  public var type: ClassificationLabels.ProblemType {
    switch self {
    case .singleLabel: .singleLabel
    case .multiLabel: .multiLabel
    case .regression: .regression
    }
  }
}

/// `bnb_4bit_quant_type`: the values of four bits.
public enum QuantTypeChoice: String, ConfigurationChoice {
  case nf4, fp4

  public var type: BitsAndBytesConfig.QuantType { self == .nf4 ? .nf4 : .fp4 }
}

/// `dtype`: the type in which the base is held.
public enum DTypeChoice: String, ConfigurationChoice {
  case auto, float32, bfloat16

  public static let synonyms: [String: DTypeChoice] = [
    "fp32": .float32, "torch.float32": .float32, "float": .float32, "bf16": .bfloat16,
    "torch.bfloat16": .bfloat16,
  ]

  /// The engine's type; nil for `auto`.
  public var type: DType? {
    switch self {
    case .auto: nil
    case .float32: .float32
    case .bfloat16: .bfloat16
    }
  }
}
