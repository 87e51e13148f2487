import Foundation
import JSON

/// The files of a tokenizer, as they were read or will be written.
public struct TokenizerFiles: Sendable {
  static let tokenizer = "tokenizer.json"
  static let configuration = "tokenizer_config.json"
  static let specialTokensMap = "special_tokens_map.json"
  static let addedTokens = "added_tokens.json"
  static let chatTemplate = "chat_template.jinja"
  /// What is kept when a tokenizer is saved: the files above, and those that older software reads.
  static let names = [
    tokenizer, configuration, specialTokensMap, addedTokens, chatTemplate, "vocab.json", "merges.txt",
  ]

  /// Contents by name.
  public private(set) var contents: [String: Data] = [:]

  /// Reads the files that a directory has.
  init(directory: URL) throws(TokenizerError) {
    for name in Self.names {
      let url = directory.appending(path: name)
      guard FileManager.default.fileExists(atPath: url.path) else { continue }
      do {
        contents[name] = try Data(contentsOf: url)
      } catch {
        throw TokenizerError(
          .file, "\(url.path) cannot be read: \(error.localizedDescription). Check its permissions.")
      }
    }
    guard contents[Self.tokenizer] != nil else {
      throw TokenizerError(
        .file,
        "There is no tokenizer.json in \(directory.path). Download it with the model, or convert the "
          + "tokenizer with transformers: `AutoTokenizer.from_pretrained(…).save_pretrained(…)`.")
    }
  }

  init(contents: [String: Data]) { self.contents = contents }

  func json(_ name: String) throws(TokenizerError) -> JSONValue? {
    guard let data = contents[name] else { return nil }
    do throws(JSONError) {
      return try JSONValue(parsing: data, options: JSONParsingOptions(replacesLoneSurrogates: true))
    } catch {
      throw TokenizerError(.malformed, "\(name) is not valid JSON: \(error). Download the file again.")
    }
  }
}

extension Tokenizer {
  /// Reads the tokenizer of a model directory: `tokenizer.json`, and where they exist
  /// `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json` and `chat_template.jinja`.
  ///
  /// - Throws: ``TokenizerError``.
  public convenience init(directory: URL) throws {
    try self.init(files: TokenizerFiles(directory: directory))
  }

  /// Reads a tokenizer from the contents of `tokenizer.json` and `tokenizer_config.json`.
  ///
  /// - Throws: ``TokenizerError``.
  public convenience init(tokenizerJSON: Data, config: Data? = nil) throws {
    var contents = [TokenizerFiles.tokenizer: tokenizerJSON]
    contents[TokenizerFiles.configuration] = config
    try self.init(files: TokenizerFiles(contents: contents))
  }

  convenience init(files: TokenizerFiles) throws(TokenizerError) {
    let template = files.contents[TokenizerFiles.chatTemplate]
    try self.init(
      TokenizerDocument(parsing: files.contents[TokenizerFiles.tokenizer] ?? Data()),
      configuration: TokenizerConfiguration(
        config: files.json(TokenizerFiles.configuration),
        specialTokensMap: files.json(TokenizerFiles.specialTokensMap),
        addedTokens: files.json(TokenizerFiles.addedTokens),
        chatTemplate: template.map { String(decoding: $0, as: UTF8.self) }),
      files: files)
  }
}
