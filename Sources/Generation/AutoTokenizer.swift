import Formats
import Foundation
import JSON
import Models
import Tokenizers

/// Loads the tokenizer that belongs to a model.
public enum AutoTokenizer {
  /// The tokenizer and the chat template at `path`: a Hugging Face directory with `tokenizer.json`, a GGUF file (or a
  /// directory with nothing else), or an adapter's directory, which may have its own or name the base that has.
  ///
  /// - Throws: an error that names the file that is missing or wrong.
  public static func fromPretrained(_ path: String) throws -> ChatTokenizer {
    let url = URL(fileURLWithPath: path)
    var isDirectory: ObjCBool = false
    guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isDirectory) else {
      throw GenerationError(
        "There is no tokenizer at \(url.path). Name a directory with tokenizer.json, or a .gguf file.")
    }
    guard isDirectory.boolValue else { return try fromGGUF(url) }

    func has(_ name: String) -> Bool {
      FileManager.default.fileExists(atPath: url.appendingPathComponent(name).path)
    }
    if has("tokenizer.json") { return try ChatTokenizer(Tokenizer(directory: url)) }
    if has("adapter_config.json"), let base = try baseModel(ofAdapter: url) {
      return try fromPretrained(base)
    }
    if !has("config.json"), let file = try ggufFile(in: url) { return try fromGGUF(file) }
    // Says which file is missing.
    return try ChatTokenizer(Tokenizer(directory: url))
  }

  /// The tokenizer of a model whose files are open already.
  public static func fromPretrained(_ source: PretrainedSource) throws -> ChatTokenizer {
    switch source.layout {
    case .gguf(let file): try fromGGUF(file)
    case .directory: try fromPretrained(source.url.path)
    }
  }

  private static func fromGGUF(_ url: URL) throws -> ChatTokenizer {
    guard let file = try Checkpoint.open(url) as? GGUFFile else {
      throw GenerationError(
        "\(url.path) holds weights without a tokenizer. Name the directory that has its tokenizer.json.")
    }
    return try fromGGUF(file)
  }

  private static func fromGGUF(_ file: GGUFFile) throws -> ChatTokenizer {
    try ChatTokenizer(Tokenizer(gguf: file.vocabulary()))
  }

  private static func ggufFile(in directory: URL) throws -> URL? {
    let names = try FileManager.default.contentsOfDirectory(atPath: directory.path)
    return names.filter { $0.hasSuffix(".gguf") }.sorted().first.map(directory.appendingPathComponent)
  }

  /// What `base_model_name_or_path` of an adapter names, when it is there.
  private static func baseModel(ofAdapter directory: URL) throws -> String? {
    let file = directory.appendingPathComponent("adapter_config.json")
    guard let base = try JSONValue(parsing: Data(contentsOf: file))["base_model_name_or_path"]?.stringValue
    else { return nil }
    return try BaseModelLocation.resolve(base, adapter: directory)
  }
}
