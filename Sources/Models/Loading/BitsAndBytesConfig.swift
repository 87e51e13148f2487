import JSON
import NeuralNetworks
import OrderedCollections
import Torch

/// How linear layers are quantized while a model is loaded, and how a quantized checkpoint says it was: transformers'
/// `BitsAndBytesConfig`, with its names.
public struct BitsAndBytesConfig: Sendable, Hashable {
  /// The type of four-bit codes.
  public enum QuantType: String, Sendable, Hashable, CaseIterable {
    case nf4, fp4

    var encoding: QuantizedMatrix.Encoding { self == .nf4 ? .nf4 : .fp4 }
  }

  public enum Form: Sendable, Hashable {
    /// `load_in_4bit`, `bnb_4bit_quant_type`, `bnb_4bit_use_double_quant`.
    case fourBit(QuantType, doubleQuantization: Bool)
    /// `load_in_8bit`: the weights alone; activations keep their type, unless ``BitsAndBytesConfig/multipliesBytes`` is set.
    case int8
  }

  public var form: Form
  /// `bnb_4bit_compute_dtype`: the type that four-bit layers multiply in; nil is the model's.
  public var computeType: DType?
  /// `llm_int8_skip_modules`: names of modules that stay dense, of four-bit models too; nil is the output embedding.
  public var skipModules: [String]?
  /// `int8_matmul`: whether int8 layers quantize their inputs and gradients too and multiply bytes.
  public var multipliesBytes = false

  public init(
    _ form: Form, computeType: DType? = nil, skipModules: [String]? = nil, multipliesBytes: Bool = false
  ) {
    self.multipliesBytes = multipliesBytes
    self.form = form
    self.computeType = computeType
    self.skipModules = skipModules
  }

  /// Whether the layer at `path` is to be quantized.
  ///
  /// The output embedding never is: its logits decide between all tokens. transformers goes by the same rule.
  func quantizes(_ path: String, isOutputEmbedding: Bool) -> Bool {
    guard let skipModules else { return !isOutputEmbedding }
    return !skipModules.contains {
      path == $0 || path.hasSuffix(".\($0)") || path.hasPrefix("\($0).") || path.contains(".\($0).")
    }
  }

  /// Quantizes one weight `[out, in]`.
  func storage(of weight: Tensor) throws -> any WeightStorage {
    switch form {
    case .fourBit(let type, let doubleQuantization):
      try FourBitWeight(
        quantizing: weight, encoding: type.encoding, doubleQuantization: doubleQuantization,
        computeType: computeType)
    case .int8: try Int8Weight(quantizing: weight)
    }
  }
}

// MARK: - quantization_config

extension BitsAndBytesConfig {
  /// Reads `quantization_config` of a `config.json`; nil when there is none.
  ///
  /// - Throws: ``ModelError`` when the model is quantized in a way that Graft does not read.
  package init?(_ configuration: ModelConfiguration) throws {
    guard let settings = try configuration.object("quantization_config") else { return nil }
    let method = try settings.string("quant_method", default: "bitsandbytes").lowercased()
    guard ["bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"].contains(method) else {
      throw ModelError(
        "The model of \(configuration.source) is quantized with \(method), which Graft does not read; it reads bitsandbytes. Use "
          + "the model in float16 or bfloat16, or its GGUF form.")
    }
    let fourBit = try settings.bool("load_in_4bit", default: false)
    let eightBit = try settings.bool("load_in_8bit", default: false)
    guard fourBit != eightBit else {
      throw ModelError(
        "\(settings.source) must set one of `load_in_4bit` and `load_in_8bit`. Download the file again.")
    }
    // transformers' defaults.
    let name = try settings.string("bnb_4bit_quant_type", default: "fp4")
    guard let type = QuantType(rawValue: name) else {
      throw ModelError("`bnb_4bit_quant_type` in \(settings.source) is `\(name)`; it can be nf4 or fp4.")
    }
    let doubled = try settings.bool("bnb_4bit_use_double_quant", default: false)
    let computeName = try settings.string("bnb_4bit_compute_dtype", default: "float32")
    guard let computeType = DType(torchName: computeName), computeType.isFloatingPoint else {
      throw ModelError(
        "`bnb_4bit_compute_dtype` in \(settings.source) is `\(computeName)`, which is no floating-point type."
      )
    }
    self.init(
      fourBit ? .fourBit(type, doubleQuantization: doubled) : .int8,
      // Older checkpoints leave float32 there, which nobody chose; layers then compute in the model's type.
      computeType: fourBit && computeType != .float32 ? computeType : nil,
      skipModules: try settings.strings("llm_int8_skip_modules"))
  }

  /// `quantization_config` as transformers writes it.
  var json: JSONValue {
    var fourBit: (type: QuantType, doubled: Bool) = (.fp4, false)
    var isFourBit = false
    if case .fourBit(let type, let doubled) = form {
      fourBit = (type, doubled)
      isFourBit = true
    }
    return [
      "_load_in_4bit": .bool(isFourBit), "_load_in_8bit": .bool(!isFourBit),
      "bnb_4bit_compute_dtype": .string((computeType ?? .float32).torchName),
      "bnb_4bit_quant_storage": "uint8", "bnb_4bit_quant_type": .string(fourBit.type.rawValue),
      "bnb_4bit_use_double_quant": .bool(fourBit.doubled),
      "llm_int8_enable_fp32_cpu_offload": false, "llm_int8_has_fp16_weight": false,
      "llm_int8_skip_modules": skipModules.map { .array($0.map(JSONValue.string)) } ?? .null,
      "llm_int8_threshold": 6.0, "load_in_4bit": .bool(isFourBit), "load_in_8bit": .bool(!isFourBit),
      "quant_method": "bitsandbytes",
    ]
  }

  /// What the storages of a model amount to; nil when none is of bitsandbytes.
  init?(of model: any PretrainedModel) {
    var found: BitsAndBytesConfig?
    var dense: [String] = []
    for (path, module) in model.namedModules() {
      guard let layer = module as? Linear else { continue }
      switch layer.weight {
      case let weight as FourBitWeight:
        found = BitsAndBytesConfig(
          .fourBit(
            weight.matrix.encoding == .nf4 ? .nf4 : .fp4, doubleQuantization: weight.matrix.nested != nil),
          computeType: weight.computeType)
      case is Int8Weight: found = BitsAndBytesConfig(.int8)
      default: dense.append(path)
      }
    }
    guard var found else { return nil }
    // The output embedding alone needs no mention.
    if dense.contains(where: { model.module(at: $0) !== model.head }) { found.skipModules = dense }
    self = found
  }
}

/// What is done to a model's weights when it is loaded.
public enum BaseQuantization: Sendable, Hashable {
  /// Linear layers are quantized one after the other as they are read.
  case bitsAndBytes(BitsAndBytesConfig)
  /// The blocks of a GGUF file stay packed, mapped from the file where they can be.
  case packed
}
