import Models
import NeuralNetworks
import Torch

extension LoRAConfig {
  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    try validate()
    guard let layerReplication else { return try composed(for: model, parts: []) }
    // Targets are those of the layers as they will be.
    let replication = try LayerReplicationPart(model, layerReplication)
    replication.insert()
    defer { replication.remove() }
    return try composed(for: model, parts: [replication])
  }

  private func composed(for model: any PretrainedModel, parts first: [any AdapterPart]) throws
    -> ComposedAdapter
  {
    let chosen = try chosenModules(of: model)
    var parts = first
    var companions: [(key: String, tensor: Tensor)] = []
    for (path, module) in chosen.targets {
      switch module {
      case let layer as Linear:
        parts += try self.parts(at: layer, path, in: model)
        if layer === model.head {
          companions.append(("\(path).base_layer.weight", try layer.weight.dense()))
        }
      case let table as Embedding:
        guard initLoRAWeights != .loftQ else {
          throw AdapterError(
            "`target_modules` matches \(path), an Embedding, and `init_lora_weights: loftq` starts linear layers only, in PEFT "
              + "too. Leave it out of target_modules, or choose another start.")
        }
        let (rank, scale) = try rankAndScale(path)
        let lora = try LoRAEmbedding(table, rank: rank, scale: scale, self)
        let change: any EmbeddingChange = try useDoRA ? DoRAEmbedding(lora, table: table) : lora
        parts.append(EmbeddingPart(path: path, table: table, change: change))
        companions.append(("\(path).base_layer.weight", try table.dense()))
        if let head = chosen.tiedHead {
          parts.append(try tiedHead(of: model, at: head, lora))
          companions.append(("\(head).base_layer.weight", try table.dense()))
        }
      default:
        throw AdapterError(
          "`target_modules` matches \(path), a \(module.typeName); LoRA works on linear layers and embeddings. Name "
            + "modules within it.")
      }
    }
    let paths = chosen.targets.map(\.path) + (chosen.tiedHead.map { [$0] } ?? [])
    parts += try biasReplacements(in: model, beside: Set(paths))
    if let trainableTokenIndices {
      // As PEFT has it, the tables themselves then stay out of the file.
      companions = []
      let saved = model.namedModules().map(\.path).filter { path in
        common.modulesToSave?.contains { path.hasSuffix($0) } ?? false
      }
      parts += try trainableTokenIndices.parts(
        for: model, taken: Set(paths + saved), ensureTying: common.ensureWeightTying)
    }
    return ComposedAdapter(targets: paths, parts: parts, companions: companions)
  }

  private func parts(at layer: Linear, _ path: String, in model: any PretrainedModel) throws
    -> [any AdapterPart]
  {
    let (rank, scale) = try rankAndScale(path)
    let lora = try LoRALinear(
      LoRATarget(
        path: path, layer: layer, rank: rank, scale: scale, device: model.device,
        loftQ: loftQConfig ?? LoftQConfig()), self)
    let part = LinearPart(
      path: path, layer: layer, change: try useDoRA ? DoRALinear(lora, layer: layer) : lora)
    return lora.substitute.map { [WeightSubstitution(layer, by: $0), part] } ?? [part]
  }

  private func biasReplacements(in model: any PretrainedModel, beside targeted: Set<String>) throws
    -> [ParameterReplacement]
  {
    guard bias != .none else { return [] }
    return try model.namedModules().compactMap { path, module in
      guard let layer = module as? Linear, let parameter = layer.bias else { return nil }
      if targeted.contains(path) {
        return try ParameterReplacement(key: "\(path).base_layer.bias", place: .parameter(parameter))
      }
      return bias == .all ? try ParameterReplacement(key: "\(path).bias", place: .parameter(parameter)) : nil
    }
  }

  // MARK: Tied embeddings

  /// The modules to change; where tied embeddings are to stay tied, the input embedding stands for both.
  private func chosenModules(of model: any PretrainedModel) throws
    -> (targets: [(path: String, module: Module)], tiedHead: String?)
  {
    let chosen = try targets.resolve(
      in: model, defaults: LoRAConfig.defaultTargets, modulesToSave: common.modulesToSave)
    let ends = chosen.filter { $0.module === model.inputEmbedding || $0.module === model.head }
    guard common.ensureWeightTying, model.tiesEmbeddings, !ends.isEmpty else { return (chosen, nil) }
    let modules = model.namedModules()
    let input = modules.first { $0.module === model.inputEmbedding }!
    let head = modules.first { $0.module === model.head }!
    let others = chosen.filter { $0.module !== input.module && $0.module !== head.module }
    return ([input] + others, head.path)
  }

  private func tiedHead(of model: any PretrainedModel, at path: String, _ embedding: LoRAEmbedding) throws
    -> TiedHeadPart
  {
    guard !useDoRA else {
      throw AdapterError(
        "`ensure_weight_tying` cannot be kept with `use_dora`: magnitudes belong to the columns at one end of the model and "
          + "to the rows at the other. Leave the embeddings out of target_modules, or set one of them to false."
      )
    }
    let change = TiedLoRAHead(embedding)
    return TiedHeadPart(
      path: path, head: model.head, table: model.inputEmbedding, change: change,
      copies: change.copies)
  }
}
