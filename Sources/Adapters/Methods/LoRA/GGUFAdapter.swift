import Formats
import Foundation
import Models
import OrderedCollections
import Torch

/// A LoRA adapter as the GGUF file that llama.cpp and Ollama load beside a model: `general.type` adapter, `adapter.type` lora, one
/// `adapter.lora.alpha`, and for each weight a pair, such as `blk.0.attn_q.weight.lora_a` and `.lora_b`.
///
/// llama.cpp computes y = W x + alpha / r · B A x with the rank r of each pair. Where the scale of a layer is another than alpha / r makes it
/// (`use_rslora`, `alpha_pattern`), the ratio goes into B. Query and key of Llama have their rows in llama.cpp's order, as the weights in
/// its files have.
public struct GGUFAdapter {
  /// `adapter.lora.alpha`.
  public let alpha: Double
  /// The largest rank.
  public let rank: Int
  /// In the order of the adapter's own file: A and B under llama.cpp's names, in fp32.
  public let tensors: [(name: String, tensor: Tensor)]
  /// `general.architecture`.
  public let architecture: String
  /// `general.name`.
  public let name: String

  /// The types that the pairs can be written in.
  public enum OutType: String, Sendable, CaseIterable {
    case f32, f16, bf16

    var dtype: DType {
      switch self {
      case .f32: .float32
      case .f16: .float16
      case .bf16: .bfloat16
      }
    }
  }

  /// Reads an adapter that Graft or PEFT saved. No weight of the base is read.
  ///
  /// - Parameter base: the model that it was trained on, in whatever form.
  /// - Throws: ``AdapterError`` for what the format has no place for, and for an adapter of another base.
  public init(_ folder: URL, base: PretrainedSource) throws {
    let configuration = try PEFTModel.readConfiguration(folder)
    guard let architecture = base.family.gguf else {
      throw AdapterError(
        "GGUF files do not hold models of the type `\(base.family.modelType)`, so no adapter for one can be written."
      )
    }
    let settings = try Self.expressible(configuration, folder)
    let checkpoint = try Checkpoint.open(folder)
    let pairs = try LoRAPairs(
      folder.path, settings,
      checkpoint.tensorNames.map { ($0, try checkpoint.tensor($0, dtype: .float32)) })
    // Names and shapes are compared as they are when the adapter is put on its base.
    let structure = try AutoModelForCausalLM.structure(base)
    try PEFTModel(structure).loadAdapter(folder.path)

    let ratio = settings.useRSLoRA ? Double(settings.r).squareRoot() : 1
    // Zero would mean a scale of one to llama.cpp.
    let common = settings.loraAlpha * ratio
    alpha = Double(Float(common == 0 ? 1 : common))
    rank = pairs.pairs.values.map(\.rank).max() ?? 0
    self.architecture = architecture.name
    name = folder.standardizedFileURL.lastPathComponent
    var tensors: [(name: String, tensor: Tensor)] = []
    for (path, pair) in pairs.pairs {
      let weight = "\(path).weight"
      guard let stored = architecture.tensorName(of: weight) else {
        throw AdapterError(
          "The adapter at \(folder.path) changes `\(path)`, and GGUF files of the architecture \(architecture.name) have no tensor for "
            + "it. \(Self.merge)")
      }
      let isEnd = ["token_embd.weight", "output.weight"].contains(stored)
      guard !isEnd || !structure.tiesEmbeddings else {
        throw AdapterError(
          "The adapter at \(folder.path) changes `\(path)`, and this model's embeddings are tied: llama.cpp has one tensor for both "
            + "ends, which cannot be changed at one of them. \(Self.merge)")
      }
      let factor = pair.scale * Double(pair.rank) / alpha
      // Beyond fp32's digits it is a rounding of alpha.
      let b = abs(factor - 1) < 1e-7 ? pair.b : try pair.b * factor
      // llama.cpp looks rows up in A of an embedding: [vocabulary, r].
      tensors.append(("\(stored).lora_a", pair.isEmbedding ? try pair.a.transposed().contiguous() : pair.a))
      tensors.append(
        (
          "\(stored).lora_b",
          try architecture.interleaved(b, checkpointName: weight, configuration: base.configuration)
        ))
    }
    self.tensors = tensors
  }

  /// Writes the file, which appears complete or not at all.
  ///
  /// - Throws: ``AdapterError`` for numbers that `type` cannot hold, `FormatError` when the disk is full.
  public func write(to url: URL, as type: OutType = .f32) throws {
    let converted = try tensors.map { name, tensor in
      let tensor = try tensor.to(type.dtype)
      guard try tensor.isFinite().to(.float32).min().item() == 1 else {
        throw AdapterError(
          "`\(name)` holds numbers that \(type.rawValue) cannot hold (float16 ends at 65,504). Write it as f32 or bf16."
        )
      }
      return (name: name, tensor: tensor)
    }
    try GGUF.write(
      converted,
      metadata: [
        ("general.architecture", .string(architecture)), ("general.type", .string("adapter")),
        ("adapter.type", .string("lora")), ("general.name", .string(name)),
        ("adapter.lora.alpha", .float32(Float(alpha))), ("general.quantization_version", .uint32(2)),
      ], to: url)
  }

  // MARK: What the format has no place for

  private static let merge =
    "Merge the adapter (`graft merge`), and convert the merged model with llama.cpp's convert_hf_to_gguf.py."

  /// The settings of an adapter that is nothing but pairs of A and B.
  private static func expressible(_ configuration: any AdapterConfiguration, _ folder: URL) throws
    -> LoRAConfig
  {
    func refuse(_ option: String, _ reason: String) -> AdapterError {
      AdapterError(
        "The adapter at \(folder.path) has `\(option)`, and \(reason), which a GGUF adapter has no place for. \(merge)"
      )
    }
    guard let settings = configuration as? LoRAConfig else {
      throw AdapterError(
        "The adapter at \(folder.path) is of the method \(type(of: configuration).method.peftType), and llama.cpp knows adapters of "
          + "LoRA alone. \(merge)")
    }
    if settings.useDoRA { throw refuse("use_dora", "with it magnitudes of the rows") }
    if settings.bias != .none { throw refuse("bias: \(settings.bias.rawValue)", "with it trained biases") }
    if settings.loraBias { throw refuse("lora_bias", "with it biases of B") }
    if settings.trainableTokenIndices != nil {
      throw refuse("trainable_token_indices", "with it rows of the embedding")
    }
    if settings.layerReplication != nil { throw refuse("layer_replication", "with it layers that repeat") }
    if let saved = settings.common.modulesToSave, !saved.isEmpty {
      throw refuse("modules_to_save: \(saved.joined(separator: ", "))", "with it modules trained in full")
    }
    return settings
  }
}
