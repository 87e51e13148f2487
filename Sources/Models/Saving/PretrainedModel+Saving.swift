import Files
import Formats
import Foundation
import JSON
import NeuralNetworks

extension CausalLanguageModel {
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
      (self as? any LayerArranging).map { $0.layerSources != Array(0..<$0.layerSources.count) } ?? false
    for (name, parameter) in namedParameters() {
      // Layers that were repeated share their parameters as well, and are stored each.
      guard seen.insert(ObjectIdentifier(parameter)).inserted || (arranged && name.contains(".layers."))
      else { continue }
      tensors.append(TensorToWrite(name: name, tensor: parameter.value))
    }
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    try Safetensors.writeSharded(
      tensors, metadata: ["format": "pt"], to: directory, maximumShardSize: maxShardSize)

    var json = configuration.json
    json["torch_dtype"] = .string(dtype.torchName)
    if json["dtype"] != nil { json["dtype"] = .string(dtype.torchName) }
    // What a merged adapter may have changed.
    json["tie_word_embeddings"] = .bool(tiesEmbeddings)
    applyArrangement(to: &json)
    try AtomicFile.write(
      Data((json.serialized(indent: 2) + "\n").utf8), to: directory.appendingPathComponent("config.json"))
  }
}
