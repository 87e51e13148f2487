import Formats
import Foundation
import JSON
import Models

extension GenerationConfig {
  /// The settings that a model is published with: `generation_config.json` of its directory, where there is one, and
  /// the end tokens of `config.json` or of the GGUF file's metadata otherwise.
  ///
  /// - Throws: ``GenerationError`` when the file is damaged, or asks for a way of generating that Graft does not have.
  public static func fromPretrained(_ source: PretrainedSource) throws -> GenerationConfig {
    var config = GenerationConfig()
    switch source.layout {
    case .directory:
      let file = source.url.appendingPathComponent("generation_config.json")
      if FileManager.default.fileExists(atPath: file.path) { config = try GenerationConfig(contentsOf: file) }
    case .gguf(let file):
      let vocabulary = try file.vocabulary()
      let ends = [vocabulary.endOfSequenceID, vocabulary.endOfTurnID, vocabulary.endOfMessageID]
      let tokens = Set(ends.compactMap { $0.map(Int32.init) }).sorted()
      config.eosTokenIDs = tokens.isEmpty ? nil : tokens
    }
    if config.eosTokenIDs == nil {
      let tokens = source.configuration.endOfSequenceTokens.map { Int32(clamping: $0) }
      config.eosTokenIDs = tokens.isEmpty ? nil : tokens
    }
    return config
  }

  /// Reads a `generation_config.json`.
  public init(contentsOf file: URL) throws {
    let json: JSONValue
    do {
      json = try JSONValue(parsing: Data(contentsOf: file))
    } catch {
      throw GenerationError("\(file.path) cannot be read: \(error). Download the file again.")
    }
    try self.init(json: json, source: file.path)
  }

  /// - Parameter source: where the object comes from, for messages.
  public init(json: JSONValue, source: String) throws {
    guard json.objectValue != nil else {
      throw GenerationError("\(source) holds \(json.kind), not an object. Download the file again.")
    }
    func value<Value>(_ key: String, _ kind: String, _ convert: (JSONValue) -> Value?) throws -> Value? {
      guard let stored = json[key], !stored.isNull else { return nil }
      guard let value = convert(stored) else {
        throw GenerationError("`\(key)` in \(source) is \(stored.serialized()), where \(kind) is wanted.")
      }
      return value
    }
    func integer(_ key: String) throws -> Int? { try value(key, "a whole number") { $0.intValue } }
    func number(_ key: String) throws -> Double? { try value(key, "a number") { $0.doubleValue } }
    func strings(_ value: JSONValue) -> [String]? {
      if let one = value.stringValue { return [one] }
      guard let list = value.arrayValue else { return nil }
      let texts = list.compactMap(\.stringValue)
      return texts.count == list.count ? texts : nil
    }
    func tokens(_ value: JSONValue) -> [Int32]? {
      let list = value.arrayValue ?? [value]
      let tokens = list.compactMap { $0.intValue.flatMap(Int32.init(exactly:)) }
      return tokens.count == list.count ? tokens : nil
    }

    self.init(
      maxNewTokens: try integer("max_new_tokens"),
      maxLength: try integer("max_length"),
      minNewTokens: try integer("min_new_tokens"),
      eosTokenIDs: try value("eos_token_id", "a token or a list of tokens", tokens),
      stopStrings: try value("stop_strings", "a text or a list of texts", strings) ?? [],
      doSample: try value("do_sample", "true or false") { $0.boolValue } ?? false,
      temperature: try number("temperature") ?? 1,
      topK: try integer("top_k") ?? 50,
      topP: try number("top_p") ?? 1,
      minP: try number("min_p"),
      typicalP: try number("typical_p") ?? 1,
      repetitionPenalty: try number("repetition_penalty") ?? 1,
      noRepeatNGramSize: try integer("no_repeat_ngram_size") ?? 0)

    // These would change every answer; text without them would not be this model's. Other keys say nothing about text.
    for (key, neutral) in Self.missing {
      guard let stored = json[key], !stored.isNull, stored != neutral else { continue }
      if let number = stored.doubleValue, number == neutral.doubleValue { continue }
      throw GenerationError(
        "\(source) sets `\(key)` to \(stored.serialized()), which Graft does not have. Take the key out of the file to "
          + "generate without it.")
    }
    try validate()
  }

  /// Settings of transformers that change the text and that Graft does not have, with the value that does nothing.
  private static let missing: [(key: String, neutral: JSONValue)] = [
    ("num_beams", 1), ("num_beam_groups", 1), ("diversity_penalty", 0), ("penalty_alpha", 0),
    ("encoder_repetition_penalty", 1), ("bad_words_ids", []), ("suppress_tokens", []),
    ("begin_suppress_tokens", []), ("forced_bos_token_id", nil), ("forced_eos_token_id", nil),
    ("sequence_bias", [:]), ("guidance_scale", 1), ("top_h", nil), ("epsilon_cutoff", 0), ("eta_cutoff", 0),
    ("exponential_decay_length_penalty", nil), ("min_length", 0), ("num_return_sequences", 1),
    ("constraints", nil), ("force_words_ids", nil), ("watermarking_config", nil), ("token_healing", false),
    ("dola_layers", nil), ("max_time", nil),
  ]
}
