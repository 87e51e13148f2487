import Foundation

extension Tokenizer {
  /// Writes the tokenizer's files into `directory`; see ``TokenizerFiles/save(to:)``.
  ///
  /// - Throws: ``TokenizerError`` where a file cannot be written.
  public func save(to directory: URL) throws { try files.save(to: directory) }
}

extension TokenizerFiles {
  /// Writes the files into `directory`, which is made if need be: what transformers'
  /// `AutoTokenizer.from_pretrained` reads. Files that the tokenizer was read from are written byte for
  /// byte; one that came from GGUF is written as the same tokenizer in Hugging Face's form.
  ///
  /// - Throws: ``TokenizerError`` where a file cannot be written.
  public func save(to directory: URL) throws {
    do {
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      for (name, data) in contents.sorted(by: { $0.key < $1.key }) {
        try data.write(to: directory.appending(path: name), options: .atomic)
      }
    } catch {
      throw TokenizerError(
        .file,
        "The tokenizer cannot be written to \(directory.path): \(error.localizedDescription). Check "
          + "that the disk has room and that the directory may be written to.")
    }
  }
}
