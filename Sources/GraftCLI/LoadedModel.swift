import Foundation
import Graft

/// A model with its adapters, tokenizer and settings, as a command's options name them.
struct LoadedModel {
  let source: PretrainedSource
  let model: PEFTModel
  let tokenizer: ChatTokenizer
  /// The settings that the model is published with.
  let generation: GenerationConfig

  /// - Throws: `ModelError` for a model that writes no text.
  var generator: Generator {
    get throws { try Generator(model.causalLanguageModel(), tokenizer: tokenizer) }
  }
}

extension ModelOptions {
  /// The base model and the adapters that the options mean: the model may be an adapter's folder, which names its base.
  func resolved() throws -> (base: String, adapters: [(name: String, folder: String)]) {
    let folder = URL(fileURLWithPath: model)
    func has(_ name: String) -> Bool {
      FileManager.default.fileExists(atPath: folder.appendingPathComponent(name).path)
    }
    guard has("adapter_config.json"), !has("config.json") else { return (model, namedAdapters) }
    let configuration = try PEFTModel.readConfiguration(folder)
    guard let named = configuration.common.baseModelNameOrPath else {
      throw CommandError(
        "The adapter at \(model) does not say which base model it is for (`base_model_name_or_path`)",
        remedy: "name the base model, and the adapter with --adapter")
    }
    let base = try BaseModelLocation.resolve(named, adapter: folder)
    guard !namedAdapters.contains(where: { $0.name == "default" }) else {
      return (base, [(folder.lastPathComponent, model)] + namedAdapters)
    }
    return (base, [("default", model)] + namedAdapters)
  }

  /// Loads what the options name; the first adapter is active, or the one called `active` ("none" is the base alone).
  func load(using active: String? = nil) throws -> LoadedModel {
    let (base, adapters) = try resolved()
    // Files are looked at before the weights are read.
    let source = try PretrainedSource(base)
    for adapter in adapters { _ = try PEFTModel.readConfiguration(URL(fileURLWithPath: adapter.folder)) }
    if let active, active != "none", !adapters.contains(where: { $0.name == active }) {
      let known = adapters.map(\.name).joined(separator: ", ")
      throw CommandError(
        "There is no adapter `\(active)`",
        remedy: known.isEmpty
          ? "name its folder with --adapter \(active)=FOLDER" : "write one of \(known), or none")
    }
    let tokenizerFolder = adapters.map(\.folder).first {
      FileManager.default.fileExists(atPath: "\($0)/tokenizer.json")
    }
    let tokenizer =
      try tokenizerFolder.map { try AutoTokenizer.fromPretrained($0) } ?? AutoTokenizer.fromPretrained(source)
    let generation = try GenerationConfig.fromPretrained(source)

    let device = try compute.prepare()
    let model = try AutoPEFTModel.fromPretrained(
      source, adapters: adapters, dtype: compute.baseType, device: device, quantization: compute.quantization)
    if let active { try model.setAdapters(active == "none" ? [] : [active]) }
    return LoadedModel(source: source, model: model, tokenizer: tokenizer, generation: generation)
  }
}

extension ComputeOptions {
  /// The type of the base's weights; nil leaves it as it is.
  var baseType: DType? { dtype == "auto" ? nil : DType(torchName: dtype) }

  /// What is done to the base's weights while they are read.
  var quantization: BaseQuantization? {
    if ggufPacked { return .packed }
    if loadIn8bit { return .bitsAndBytes(BitsAndBytesConfig(.int8)) }
    guard loadIn4bit, let type = BitsAndBytesConfig.QuantType(rawValue: quantType) else { return nil }
    return .bitsAndBytes(
      BitsAndBytesConfig(
        .fourBit(type, doubleQuantization: useDoubleQuant),
        computeType: computeType == "auto" ? nil : DType(torchName: computeType)))
  }

  /// Sets the number of threads, and makes the device usable.
  func prepare() throws -> Device {
    if let threads { Engine.threadCount = threads }
    let chosen = try Device(choice: device)
    try Engine.prepare(chosen)
    return chosen
  }
}
