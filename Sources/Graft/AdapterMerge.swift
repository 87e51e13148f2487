import Adapters
import Files
import Formats
import Foundation
import Generation
import Models
import NeuralNetworks
import Torch
import Training

/// Merges an adapter into its base, writes the model and proves that it is the same model.
public struct AdapterMerge {
  /// The base: a directory or a GGUF file.
  public var base: String
  /// The adapter's directory.
  public var adapter: String
  /// The type of the merged weights; nil is the base's own.
  public var dtype: DType?
  public var device: Device
  public var maxShardSize: ShardSize
  /// How the base is loaded; nil is as it is stored.
  public var quantization: BaseQuantization?
  /// Whether merged layers go back into the quantized form that they had, instead of staying dense.
  public var requantizes: Bool

  public init(
    base: String, adapter: String, dtype: DType? = nil, device: Device = .cpu,
    maxShardSize: ShardSize = .standard, quantization: BaseQuantization? = nil, requantizes: Bool = false
  ) {
    self.base = base
    self.adapter = adapter
    self.dtype = dtype
    self.device = device
    self.maxShardSize = maxShardSize
    self.quantization = quantization
    self.requantizes = requantizes
  }

  /// How far the written model is from base and adapter.
  public struct Report: Sendable, Codable {
    public var output: String
    public var dtype: String
    /// ‖merged − adapted‖ / ‖adapted‖ of the logits.
    public var drift: Double
    /// The most that rounding the weights accounts for.
    public var tolerance: Double
    /// Whether merged layers were quantized anew, which costs more than rounding does; the drift then is not held against it.
    public var requantized: Bool
    /// ‖adapted − base‖ / ‖base‖: what the adapter does at all.
    public var adapterEffect: Double
  }

  /// Writes the merged model into `directory`, which appears only when the verification has passed.
  ///
  /// - Throws: ``TrainingError`` when the drift is more than rounding.
  public func write(to directory: URL) throws -> Report {
    let files = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
    guard files.isEmpty else {
      throw TrainingError("\(directory.path) is not empty; name a folder that does not exist yet.")
    }
    let source = try PretrainedSource(base)
    let tokenizer = try? AutoTokenizer.fromPretrained(source)
    let model = try AutoPEFTModel.fromPretrained(
      source, adapters: [("default", adapter)], dtype: dtype, device: device, quantization: quantization)
    let quantized = quantizedLayers(model.base)
    guard !requantizes || !quantized.isEmpty else {
      throw TrainingError(
        "Nothing of the base at \(source.url.path) is quantized by bitsandbytes, so nothing can be quantized anew. Leave the "
          + "setting out, or load the base with load_in_4bit or load_in_8bit.")
    }

    let probe = try probeInput(model.base)
    let adapted = try logits(model.base, probe)
    let plain = try model.withAdaptersDisabled { try logits(model.base, probe) }
    // The rounding of the base's own weights is the measure: fp32 keeps 24 bits, bf16 8, over layers that add up.
    let tolerance = model.base.dtype == .float32 ? 1e-4 : 0.05
    let merged = try model.mergeAndUnload()
    if requantizes {
      for (layer, storage) in quantized where layer.weight !== storage {
        try storage.replace(with: layer.weight.dense())
        layer.weight = storage
      }
    }

    return try AtomicDirectory.write(directory) { folder in
      try merged.savePretrained(to: folder, maxShardSize: maxShardSize)
      try tokenizer?.tokenizer.save(to: folder)
      try copyGenerationConfig(source, to: folder)

      let written = try AutoModel.fromPretrained(PretrainedSource(folder.path), device: device)
      let report = Report(
        output: directory.path, dtype: written.dtype.torchName,
        drift: try relativeDistance(logits(written, probe), adapted), tolerance: tolerance,
        requantized: requantizes,
        adapterEffect: try relativeDistance(adapted, plain))
      guard requantizes || report.drift <= tolerance else {
        throw TrainingError(
          "The merged model's logits differ from base and adapter by \(report.drift) (relative), more than the "
            + "\(tolerance) that rounding to \(report.dtype) explains; nothing was written. Merge with --dtype float32."
        )
      }
      return report
    }
  }

  /// The layers whose storage can take a merged weight back.
  private func quantizedLayers(_ model: any PretrainedModel) -> [(
    layer: NeuralNetworks.Linear, storage: any WeightStorage
  )] {
    model.namedModules().compactMap { _, module in
      guard let layer = module as? NeuralNetworks.Linear,
        layer.weight is FourBitWeight || layer.weight is Int8Weight
      else {
        return nil
      }
      return (layer, layer.weight)
    }
  }

  /// Tokens spread over the vocabulary, in two sequences.
  private func probeInput(_ model: any PretrainedModel) throws -> ModelInput {
    let count = min(64, model.contextLength / 2)
    let tokens = (0..<2 * count).map { Int32(($0 * 7919 + 13) % model.vocabularySize) }
    return try ModelInput([Array(tokens[..<count]), Array(tokens[count...])], device: device)
  }

  private func logits(_ model: any PretrainedModel, _ input: ModelInput) throws -> Tensor {
    try withoutGradient { try model.logits(input).to(.float32) }
  }

  private func relativeDistance(_ a: Tensor, _ b: Tensor) throws -> Double {
    try (a - b).norm().item() / max(b.norm().item(), 1e-30)
  }

  private func copyGenerationConfig(_ source: PretrainedSource, to folder: URL) throws {
    let file = source.url.appendingPathComponent("generation_config.json")
    guard let data = try? Data(contentsOf: file) else { return }
    try AtomicFile.write(data, to: folder.appendingPathComponent("generation_config.json"))
  }
}
