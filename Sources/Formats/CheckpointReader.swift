import Foundation

/// A file, or several that belong together, with named tensors: what model loading works on, whatever the format.
public protocol CheckpointReader: Sendable {
  /// The file, or the index or folder when there are several.
  var url: URL { get }

  /// The names of all tensors, in the order in which they are stored.
  var tensorNames: [String] { get }

  /// Free-form text that came with the tensors.
  var metadata: [String: String] { get }

  /// Whether a tensor of this name exists.
  func contains(_ name: String) -> Bool

  /// The tensor of this name.
  ///
  /// - Throws: `FormatError` with code `missing` when there is none, and others when its file has been cut short meanwhile.
  func storedTensor(_ name: String) throws -> StoredTensor

  /// Tells the operating system how the files are going to be read.
  func advise(_ advice: MappedFile.Advice)
}

extension CheckpointReader {
  /// The error for a name that is not there, with the nearest names that are.
  func missing(_ name: String) -> FormatError {
    let last = name.split(separator: ".").suffix(2).joined(separator: ".")
    let similar = tensorNames.lazy.filter { $0.hasSuffix(last) }.prefix(3).map { quoted($0) }
    let hint =
      similar.isEmpty ? "" : "; it has \(similar.joined(separator: ", "))\(similar.count == 3 ? ", …" : "")"
    return FormatError(
      .missing, in: url,
      "there is no tensor \(quoted(name)) among the \(tensorNames.count) in this file\(hint)",
      remedy: "Check that the file belongs to this model")
  }
}

/// Opens checkpoints of every format.
public enum Checkpoint {
  /// Opens the weights at `url`.
  ///
  /// A file is recognised by its first bytes: safetensors, GGUF or a PyTorch pickle; an index by its name, `….index.json`. In a
  /// folder the files are looked for in the order of transformers, `model.safetensors`, its index, `pytorch_model.bin`, its index,
  /// then those of PEFT, and at last the only `.gguf` file.
  public static func open(_ url: URL) throws -> any CheckpointReader {
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory) else {
      throw FormatError(.notFound, in: url, "there is no such file or folder", remedy: "Check the path")
    }
    if isDirectory.boolValue { return try open(weights(in: url)) }
    if url.lastPathComponent.hasSuffix(".index.json") { return try ShardedCheckpoint(index: url) }

    let file = try MappedFile(url)
    if GGUFFile.recognizes(file) { return try GGUFFile(file) }
    if TorchCheckpoint.recognizes(file) { return try TorchCheckpoint(file) }
    if SafetensorsFile.recognizes(file) { return try SafetensorsFile(file) }
    throw FormatError(
      .unsupported, in: url, "this is neither safetensors nor GGUF nor a PyTorch checkpoint",
      remedy: "Name a .safetensors, .gguf, .bin or .pt file, or a folder that holds one")
  }

  /// The file of weights that a folder's contents stand for.
  static func weights(in folder: URL) throws -> URL {
    let names = [
      "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
      "pytorch_model.bin.index.json",
      "adapter_model.safetensors", "adapter_model.bin",
    ]
    for name in names {
      let candidate = folder.appendingPathComponent(name)
      if FileManager.default.fileExists(atPath: candidate.path) { return candidate }
    }
    let files = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    let gguf = files.filter { $0.hasSuffix(".gguf") }.sorted()
    switch gguf.count {
    case 1: return folder.appendingPathComponent(gguf[0])
    case 0:
      throw FormatError(
        .notFound, in: folder, "there are no weights in this folder",
        remedy: "It should hold one of \(names.joined(separator: ", ")), or a .gguf file")
    default:
      throw FormatError(
        .mismatch, in: folder,
        "there are \(gguf.count) GGUF files in this folder: \(gguf.prefix(5).joined(separator: ", "))",
        remedy: "Name the one to use")
    }
  }
}
