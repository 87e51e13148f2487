import Files
import Formats
import Foundation
import JSON
import NeuralNetworks

extension PretrainedModel {
  /// Writes the model as a Hugging Face directory: `config.json` and `model.safetensors`, in shards when it is large.
  ///
  /// - Parameters:
  ///   - directory: is created; files of the same names are replaced.
  ///   - maxShardSize: the largest file of weights.
  public func savePretrained(to directory: URL, maxShardSize: ShardSize = .standard) throws {
    var tensors: [TensorToWrite] = []
    var seen: Set<ObjectIdentifier> = []
    // A tied parameter is stored once, as transformers does.
    let arranged =
      (backbone as? any LayerArranging).map { $0.layerSources != Array(0..<$0.layerSources.count) } ?? false
    for (name, parameter) in namedParameters() {
      // Layers that were repeated share their parameters as well, and are stored each.
      guard seen.insert(ObjectIdentifier(parameter)).inserted || (arranged && name.contains(".layers."))
      else { continue }
      tensors.append(TensorToWrite(name: name, tensor: parameter.value))
    }
    // A quantized table, and with it an output embedding of the same codes, is written dense; so are GGUF's blocks.
    for (path, module) in namedModules() {
      guard let table = module as? Embedding, !table.weight.isLoaded else { continue }
      tensors.removeAll { $0.name == "\(path).weight" }
      tensors.append(TensorToWrite(name: "\(path).weight", tensor: try table.dense()))
    }
    for (name, storage) in namedStorages() {
      if tiesEmbeddings, storage === head.weight { continue }
      for (name, tensor) in try storage.checkpointTensors(name) {
        tensors.append(TensorToWrite(name: name, tensor: tensor))
      }
    }
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    try Safetensors.writeSharded(
      tensors, metadata: ["format": "pt"], to: directory, maximumShardSize: maxShardSize)

    var json = configuration.json
    json["torch_dtype"] = .string(dtype.torchName)
    if json["dtype"] != nil { json["dtype"] = .string(dtype.torchName) }
    json["quantization_config"] = BitsAndBytesConfig(of: self)?.json
    // What a merged adapter may have changed.
    if task == .causalLM { json["tie_word_embeddings"] = .bool(tiesEmbeddings) }
    complete(&json)
    applyArrangement(to: &json)
    try AtomicFile.write(
      Data((json.serialized(indent: 2) + "\n").utf8), to: directory.appendingPathComponent("config.json"))
  }
}
