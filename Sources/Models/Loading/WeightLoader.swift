import Formats
import NeuralNetworks
import Torch

/// Fills a model's tree from a source: every name and shape is checked first, then one weight after the other is read, in
/// the form that it is to be held in.
///
/// Quantizing happens weight by weight, so that one dense weight exists at a time.
struct WeightLoader {
  let model: any PretrainedModel
  let source: PretrainedSource
  let dtype: DType
  let device: Device
  let quantization: BaseQuantization?

  /// The linear layers by the name of their weight; a tied output embedding is none of its own.
  private let layers: [String: Linear]
  private let tables: [String: Embedding]
  /// How the checkpoint was quantized.
  private let stored: BitsAndBytesConfig?
  /// Whether the source is a model of another task, so that it has a head that is left out, and none of the model's.
  let lacksHead: Bool

  init(
    _ model: any PretrainedModel, source: PretrainedSource, dtype: DType, device: Device,
    quantization: BaseQuantization?
  ) throws {
    self.model = model
    self.source = source
    self.dtype = dtype
    self.device = device
    self.quantization = quantization
    var layers: [String: Linear] = [:]
    var tables: [String: Embedding] = [:]
    for (path, module) in model.namedModules() {
      if let layer = module as? Linear { layers["\(path).weight"] = layer }
      if let table = module as? Embedding { tables["\(path).weight"] = table }
    }
    self.layers = layers
    self.tables = tables
    stored = try BitsAndBytesConfig(source.configuration)
    lacksHead = model.task != source.task
    try checkQuantization()
  }

  /// Loads everything.
  ///
  /// - Throws: also `CancellationError`, in a task that is cancelled meanwhile.
  func load() throws {
    let names = try parameterNames()
    for (name, parameter) in names {
      try Task.checkCancellation()
      if let layer = layers[name], !model.tiesEmbeddings || layer !== model.head,
        let storage = try storage(for: name, of: layer)
      {
        layer.weight = storage
        if case .bitsAndBytes(let settings) = quantization, settings.multipliesBytes {
          (storage as? Int8Weight)?.multipliesBytes = true
        }
      } else if let table = tables[name], case .packed = quantization,
        let matrix = try source.packedMatrix(name)
      {
        // Before the table changes: whether it is shared is seen by its parameter.
        let isTied = model.tiesEmbeddings && table === model.inputEmbedding
        try table.setTable(matrix, dtype: dtype)
        if isTied { model.head.weight = GGUFWeight(matrix, dtype: dtype) }
      } else {
        parameter.value = try source.tensor(name, dtype: dtype).to(dtype, device: device)
      }
      if device.kind == .cpu,
        let bytes = try source.bytesInPlace(name, dtype: dtype, packed: quantization == .packed)
      {
        if let table = tables[name] {
          if !model.tiesEmbeddings { table.setMapped(release: bytes.releasePages) }
        } else if parameter.isLoaded {
          parameter.setMapped(release: bytes.releasePages)
        }
      }
      // Pages of the file count as the process's memory: those of the whole model would be its peak.
      source.releasePages()
    }
  }

  /// The storage that a linear layer's weight goes into; nil for a dense one.
  private func storage(for name: String, of layer: Linear) throws -> (any WeightStorage)? {
    let shape = [layer.outFeatures, layer.inFeatures]
    if let storage = try source.bitsAndBytesWeight(
      name, shape: shape, dtype: dtype, device: device, computeType: computeType)
    {
      return storage
    }
    switch quantization {
    case .bitsAndBytes(let settings)
    where stored == nil
      && settings.quantizes(
        String(name.dropLast(".weight".count)), isOutputEmbedding: layer === model.head):
      return try settings.storage(of: source.tensor(name, dtype: dtype)).moved(to: device)
    case .packed:
      return try source.packedMatrix(name).map { GGUFWeight($0, dtype: dtype) }
    default: return nil
    }
  }

  private var computeType: DType? {
    if case .bitsAndBytes(let settings) = quantization, let type = settings.computeType { return type }
    return stored?.computeType
  }

  // MARK: Checks

  /// Refuses settings that contradict the source.
  private func checkQuantization() throws {
    switch quantization {
    case .bitsAndBytes(let settings):
      guard !settings.multipliesBytes || device.kind == .cpu && Engine.hasByteProducts else {
        throw ModelError(
          "`int8_matmul` multiplies bytes with instructions of the processor (AVX-512 VNNI and BF16), which "
            + (device.kind == .cpu ? "this one does not have" : "are not there on \(device)")
            + ". Leave the setting out: `load_in_8bit` alone decodes the weights and runs everywhere.")
      }
      guard let stored, stored.form != settings.form else { return }
      throw ModelError(
        "The model at \(source.url.path) is already quantized (\(stored.form.summary)) and cannot be loaded as "
          + "\(settings.form.summary). Leave the setting out, or start from the model in bfloat16.")
    case .packed:
      guard case .gguf = source.layout else {
        throw ModelError(
          "\(source.url.path) is no GGUF file, whose blocks could stay packed (`gguf_packed`). Use load_in_4bit, or the "
            + "model's GGUF form.")
      }
      guard device.kind == .cpu else {
        throw ModelError(
          "Weights of a GGUF file can stay packed (`gguf_packed`) on the processor only, not on \(device). Use load_in_4bit."
        )
      }
    case nil: break
    }
  }

  /// Every parameter once, in the model's order, after checking that names and shapes fit the source.
  private func parameterNames() throws -> [(name: String, parameter: Parameter)] {
    var result: [(name: String, parameter: Parameter)] = []
    // A head that the source does not have is made, not read.
    var seen = lacksHead ? Set(model.head.parameters().map(ObjectIdentifier.init)) : []
    var aliases: Set<String> = []
    for (name, parameter) in model.namedParameters() {
      if seen.insert(ObjectIdentifier(parameter)).inserted {
        result.append((name, parameter))
      } else {
        aliases.insert(name)  // tied: a second copy in the file is the same weight
      }
    }
    var used = aliases
    for (name, parameter) in result {
      used.insert(name)
      let companions = layers[name] == nil ? [] : source.bitsAndBytesCompanions(name)
      used.formUnion(companions)
      // The shape of codes is no shape of a weight; what they stand for is checked when they are read.
      if !companions.isEmpty { continue }
      try checkShape(name, parameter.shape)
      try source.checkType(name)
    }
    // Older checkpoints store what the model computes by itself.
    let unused = Set(source.tensorNames).subtracting(used).filter {
      !$0.hasSuffix("rotary_emb.inv_freq") && !isOfOtherHead($0)
    }
    guard unused.isEmpty else {
      let names = unused.sorted().prefix(3).map { "`\($0)`" }.joined(separator: ", ")
      throw ModelError(
        "The weights at \(source.url.path) hold \(unused.count) tensors that a \(model.typeName) of this configuration does "
          + "not have, such as \(names). Check `architectures` and `model_type` in \(source.configuration.source)."
      )
    }
    return result
  }

  /// Whether a stored tensor is of the head that the model has another in the place of.
  private func isOfOtherHead(_ name: String) -> Bool {
    lacksHead && source.task.headNames.contains { name.hasPrefix("\($0).") }
  }

  private func checkShape(_ name: String, _ wanted: [Int]) throws {
    guard let shape = try source.shape(name) else {
      let tied =
        name == "lm_head.weight" ? "; set `tie_word_embeddings` if it is the input embedding," : ","
      throw ModelError(
        "`\(name)` is missing from the weights at \(source.url.path)\(tied) or download the model again.")
    }
    guard shape == wanted else {
      throw ModelError(
        "`\(name)` at \(source.url.path) has the shape \(shape), and \(source.configuration.source) makes it \(wanted). "
          + "Weights and configuration are not of one model.")
    }
  }
}

extension BitsAndBytesConfig.Form {
  var summary: String {
    switch self {
    case .fourBit(let type, let doubled):
      "load_in_4bit, \(type.rawValue)\(doubled ? ", double quantization" : "")"
    case .int8: "load_in_8bit"
    }
  }
}

extension WeightStorage {
  /// The storage with its parts on `device`, where they are made on the host.
  fileprivate func moved(to device: Device) throws -> any WeightStorage {
    guard device.kind != .cpu, let matrix = quantized else { return self }
    let there = try matrix.moved(to: device)
    switch self {
    case let weight as FourBitWeight:
      return FourBitWeight(there, dtype: weight.dtype, computeType: weight.computeType)
    case let weight as Int8Weight: return Int8Weight(there, dtype: weight.dtype)
    default: return self
    }
  }
}
