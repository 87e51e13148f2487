import Foundation
import JSON
import OrderedCollections

extension Tokenizer {
  /// The chat template among the tokenizer's files, with the special tokens that it may read; nil when there is none.
  ///
  /// - Parameter name: which of several; nil takes `default`, and `tool_use` when there are tools.
  /// - Throws: ``ChatTemplateError`` when there are templates but none of that name, `TemplateError` when it has an
  ///   error.
  public func chatTemplate(named name: String? = nil) throws -> ChatTemplate? {
    let file = files.contents[TokenizerFiles.chatTemplate].map { String(decoding: $0, as: UTF8.self) }
    var config = try files.json(TokenizerFiles.configuration)?.objectValue ?? [:]
    guard file != nil || config["chat_template"].map({ !$0.isNull }) == true else { return nil }
    // Older models name their special tokens in a file of its own.
    for (key, token) in try files.json(TokenizerFiles.specialTokensMap)?.objectValue ?? [:]
    where config[key] == nil {
      config[key] = token
    }
    return try ChatTemplate(tokenizerConfig: .object(config), file: file, name: name)
  }
}
