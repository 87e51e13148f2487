import Foundation
import JSON

/// A parsed `tokenizer.json`, from which components are made.
struct TokenizerDocument {
  /// Everything but the lists of the model.
  let value: JSONValue
  private let lists: ModelLists

  init(parsing data: Data) throws(TokenizerError) {
    var lists = ModelLists()
    do throws(JSONError) {
      value = try JSONParser.parse(data, options: JSONParsingOptions(replacesLoneSurrogates: true)) {
        parser throws(JSONError) in
        guard parser.isAtObject else { return try parser.value() }
        return try parser.object { parser, key throws(JSONError) in
          guard key == "model" else { return try parser.value() }
          return try Self.model(&parser, &lists)
        }
      }
    } catch {
      throw TokenizerError(
        .malformed, "tokenizer.json is not valid JSON: \(error). Download the file again.")
    }
    self.lists = lists
    try check()
  }

  /// Reads the model, its lists into `lists`: there are hundreds of thousands of tokens and merges, and two
  /// tokens may be the same Swift string, so that the vocabulary cannot be a dictionary.
  private static func model(
    _ parser: inout JSONParser, _ lists: inout ModelLists
  ) throws(JSONError) -> JSONValue {
    // Of members with the same key the last one counts, here and below.
    lists = ModelLists()
    guard parser.isAtObject else { return try parser.value() }
    return try parser.object { parser, key throws(JSONError) in
      if key == "vocab" { lists.vocabulary = nil }
      if key == "merges" { lists.merges = nil }
      if key == "vocab", parser.isAtObject {
        lists.vocabulary = try Vocabulary.read(&parser)
      } else if key == "merges", parser.isAtArray {
        lists.merges = try MergeList.read(&parser)
      } else {
        return try parser.value()
      }
      return .null
    }
  }

  private func check() throws(TokenizerError) {
    guard case .object = value, value["model"] != nil else {
      throw TokenizerError(
        .malformed, "tokenizer.json is not an object with a `model`. Download the file again.")
    }
    guard let version = value["version"]?.stringValue else { return }
    guard version == "1.0" else {
      throw TokenizerError(
        .unsupported, "tokenizer.json has the version \(version.debugDescription); only 1.0 is known.")
    }
  }

  private func component(_ key: String) throws(TokenizerError) -> ComponentConfiguration? {
    guard let member = value[key], !member.isNull else { return nil }
    return try ComponentConfiguration(member, at: key)
  }

  func normalizer() throws(TokenizerError) -> (any Normalizer)? {
    guard let component = try component("normalizer") else { return nil }
    return try NormalizerCatalogue.make(component)
  }

  func preTokenizer() throws(TokenizerError) -> (any PreTokenizer)? {
    guard let component = try component("pre_tokenizer") else { return nil }
    return try PreTokenizerCatalogue.make(component)
  }

  func model() throws(TokenizerError) -> any TokenizerModel {
    try ModelCatalogue.make(ComponentConfiguration(value["model"] ?? .null, at: "model"), lists)
  }

  func postProcessor() throws(TokenizerError) -> (any PostProcessor)? {
    guard let component = try component("post_processor") else { return nil }
    return try PostProcessorCatalogue.make(component)
  }

  func decoder() throws(TokenizerError) -> (any TokenDecoder)? {
    guard let component = try component("decoder") else { return nil }
    return try DecoderCatalogue.make(component)
  }

  /// The added tokens of all files, with their ids.
  ///
  /// As the reference does it, a token has the id that the model or an earlier token of that content
  /// has, else the next free one; the ids in the files only say so.
  func addedTokens(
    model: any TokenizerModel, configuration: TokenizerConfiguration
  ) throws(TokenizerError) -> [AddedToken] {
    typealias Entry = TokenizerConfiguration.AddedTokenEntry
    var entries: [Entry] = []
    var positions: [[UInt8]: Int] = [:]
    func add(_ entry: Entry, replacing: Bool) {
      guard !entry.content.isEmpty else { return }
      let key = Array(entry.content.utf8)
      if let position = positions[key] {
        if replacing { entries[position] = entry }
      } else {
        positions[key] = entries.count
        entries.append(entry)
      }
    }
    for (index, item) in (value["added_tokens"]?.arrayValue ?? []).enumerated() {
      let token = try ComponentConfiguration(item, at: "added_tokens[\(index)]")
      let special = try token.bool("special", default: false)
      add(
        Entry(
          id: try token.integer("id"), content: try token.string("content"),
          singleWord: try token.bool("single_word", default: false),
          lstrip: try token.bool("lstrip", default: false),
          rstrip: try token.bool("rstrip", default: false),
          normalized: try token.bool("normalized", default: !special), special: special),
        replacing: true)
    }
    // transformers adds what the other files know better: flags, and tokens that are missing.
    for entry in configuration.addedTokens.sorted(by: { ($0.id ?? 0) < ($1.id ?? 0) }) {
      add(entry, replacing: entry.hasFlags)
    }
    for entry in configuration.namedTokens + configuration.additionalSpecialTokens {
      add(entry, replacing: entry.hasFlags)
    }
    var next = model.tokens.count
    var result: [AddedToken] = []
    for entry in entries {
      var id = model.tokens.id(entry.content).map(Int.init)
      if id == nil {
        id = next
        next += 1
      }
      result.append(
        AddedToken(
          id: Int32(id ?? 0), content: entry.content, singleWord: entry.singleWord,
          lstrip: entry.lstrip, rstrip: entry.rstrip, normalized: entry.normalized,
          special: entry.special))
    }
    return result
  }
}
