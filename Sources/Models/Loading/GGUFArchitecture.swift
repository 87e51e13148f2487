import Formats
import JSON
import OrderedCollections
import Torch

/// How a GGUF file of one architecture becomes a Hugging Face model: its metadata a `config.json`, its tensors those of
/// the checkpoint.
///
/// The names are those of llama.cpp's converter; most architectures share them.
public struct GGUFArchitecture: Sendable {
  /// `general.architecture`.
  public let name: String
  /// Whether the converter reordered the rows of query and key so that a rotary pair lies side by side.
  public let interleavesRotaryPairs: Bool

  public init(name: String, interleavesRotaryPairs: Bool = false) {
    self.name = name
    self.interleavesRotaryPairs = interleavesRotaryPairs
  }

  // MARK: Configuration

  /// The `config.json` that the metadata amounts to.
  func configuration(of file: GGUFFile, modelType: String, architecture: String) throws -> ModelConfiguration
  {
    let values = file.values
    func key(_ name: String) -> String { "\(self.name).\(name)" }

    let heads = try values.integer(key("attention.head_count"))
    let hidden = try values.integer(key("embedding_length"))
    let vocabulary = try file.storedTensor("token_embd.weight").shape.first ?? 0
    let context = try values.integer(key("context_length"))
    var json: OrderedDictionary<String, JSONValue> = [
      "architectures": [.string(architecture)],
      "model_type": .string(modelType),
      "vocab_size": .integer(vocabulary),
      "hidden_size": .integer(hidden),
      "intermediate_size": .integer(try values.integer(key("feed_forward_length"))),
      "num_hidden_layers": .integer(try values.integer(key("block_count"))),
      "num_attention_heads": .integer(heads),
      "num_key_value_heads": .integer(try values.optionalInteger(key("attention.head_count_kv")) ?? heads),
      "hidden_act": "silu",
      "max_position_embeddings": .integer(context),
      // GGUF keeps fp32: 1e-05 comes back as 9.999999747378752e-06, which no one wrote.
      "rms_norm_eps": .number(shortest(try values.number(key("attention.layer_norm_rms_epsilon")))),
      "rope_theta": .number(shortest(try values.optionalNumber(key("rope.freq_base")) ?? 10_000)),
      "tie_word_embeddings": .bool(!file.contains("output.weight")),
      "attention_bias": .bool(file.contains("blk.0.attn_output.bias")),
      "mlp_bias": .bool(file.contains("blk.0.ffn_down.bias")),
    ]
    if let dimension = try values.optionalInteger(key("attention.key_length")), heads > 0,
      dimension != hidden / heads
    {
      json["head_dim"] = .integer(dimension)
    }
    if let scaling = try ropeScaling(of: file, context: context) { json["rope_scaling"] = scaling }
    for (name, metadata) in [
      ("bos_token_id", "tokenizer.ggml.bos_token_id"), ("eos_token_id", "tokenizer.ggml.eos_token_id"),
      ("pad_token_id", "tokenizer.ggml.padding_token_id"),
    ] {
      if let token = try values.optionalInteger(metadata) { json[name] = .integer(token) }
    }
    return ModelConfiguration(json: .object(json), source: file.url.path)
  }

  private func ropeScaling(of file: GGUFFile, context: Int) throws -> JSONValue? {
    let values = file.values
    if file.contains("rope_freqs.weight") { return try llama3Scaling(of: file) }
    guard let kind = try values.optionalString("\(name).rope.scaling.type"), kind != "none" else {
      return nil
    }
    var scaling: OrderedDictionary<String, JSONValue> = ["rope_type": .string(kind)]
    scaling["factor"] = .number(try values.number("\(name).rope.scaling.factor"))
    if let original = try values.optionalInteger("\(name).rope.scaling.original_context_length") {
      scaling["original_max_position_embeddings"] = .integer(original)
    }
    return .object(scaling)
  }

  /// Llama 3's scaling is stored as one divisor per frequency; the published models use two sets of parameters.
  private func llama3Scaling(of file: GGUFFile) throws -> JSONValue {
    let stored = try file.storedTensor("rope_freqs.weight").floats()
    // The factor divides the lowest frequency in full.
    let factor = Double(stored.last ?? 0)
    guard [8, 32].contains(factor), stored.first == 1 else {
      throw FormatError(
        .unsupported, in: file.url,
        "`rope_freqs.weight` holds frequency factors that are not those of a Llama 3 model",
        remedy: "Use the safetensors form of this model")
    }
    return [
      "rope_type": "llama3", "factor": .number(factor), "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 8192,
    ]
  }

  private func shortest(_ value: Double) -> Double { Double(Float(value).description) ?? value }

  // MARK: Tensors

  private static let topLevel: OrderedDictionary<String, String> = [
    "token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head",
  ]

  private static let perLayer: OrderedDictionary<String, String> = [
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj", "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
  ]

  /// The checkpoint's name for a tensor of the file; nil when the model has no use for it.
  func checkpointName(of tensor: String) -> String? {
    let parts = tensor.split(separator: ".").map(String.init)
    if parts.count == 2, let module = Self.topLevel[parts[0]] { return "\(module).\(parts[1])" }
    guard parts.count == 4, parts[0] == "blk", let layer = Int(parts[1]), let module = Self.perLayer[parts[2]]
    else { return nil }
    return "model.layers.\(layer).\(module).\(parts[3])"
  }

  /// The file's name for a tensor of the checkpoint; nil when files of this architecture have none.
  package func tensorName(of checkpointName: String) -> String? {
    let parts = checkpointName.split(separator: ".").map(String.init)
    guard parts.count >= 2 else { return nil }
    let (module, kind) = (parts.dropLast().joined(separator: "."), parts[parts.count - 1])
    if let found = Self.topLevel.first(where: { $0.value == module }) { return "\(found.key).\(kind)" }
    guard parts.count > 4, parts[0] == "model", parts[1] == "layers", let layer = Int(parts[2]) else {
      return nil
    }
    let within = parts[3..<parts.count - 1].joined(separator: ".")
    return Self.perLayer.first { $0.value == within }.map { "blk.\(layer).\($0.key).\(kind)" }
  }

  /// The rows of a query or key projection in the order of Hugging Face, whose rotary pairs lie half a head apart.
  func restored(_ tensor: Tensor, checkpointName: String, configuration: ModelConfiguration) throws -> Tensor
  {
    guard let heads = try interleavedHeads(tensor, checkpointName, configuration) else { return tensor }
    // [heads, pairs, 2, …] → [heads, 2, pairs, …]
    return try tensor.reshaped([heads, tensor.size(0) / heads / 2, 2] + tensor.shape.dropFirst())
      .transposed(1, 2).reshaped(tensor.shape)
  }

  /// The other way round: the rows in the order that llama.cpp computes with.
  package func interleaved(_ tensor: Tensor, checkpointName: String, configuration: ModelConfiguration) throws
    -> Tensor
  {
    guard let heads = try interleavedHeads(tensor, checkpointName, configuration) else { return tensor }
    // [heads, 2, pairs, …] → [heads, pairs, 2, …]
    return try tensor.reshaped([heads, 2, tensor.size(0) / heads / 2] + tensor.shape.dropFirst())
      .transposed(1, 2).reshaped(tensor.shape)
  }

  /// How many heads share the rows of a tensor that the converter reorders; nil for one that it leaves alone.
  private func interleavedHeads(
    _ tensor: Tensor, _ checkpointName: String, _ configuration: ModelConfiguration
  ) throws -> Int? {
    guard interleavesRotaryPairs else { return nil }
    let heads: Int
    if checkpointName.contains("self_attn.q_proj") {
      heads = try configuration.integer("num_attention_heads")
    } else if checkpointName.contains("self_attn.k_proj") {
      heads = try configuration.integer(
        "num_key_value_heads", default: configuration.integer("num_attention_heads"))
    } else {
      return nil
    }
    guard tensor.size(0) % (2 * heads) == 0 else {
      throw ModelError(
        "\(checkpointName) in \(configuration.source) has \(tensor.size(0)) rows, which \(heads) heads do not share evenly."
      )
    }
    return heads
  }
}
