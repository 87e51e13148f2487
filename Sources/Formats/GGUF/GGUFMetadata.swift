import Foundation

/// The key-value metadata of a GGUF file: hyperparameters under `ARCHITECTURE.…`, the vocabulary under `tokenizer.…`.
///
/// The typed accessors come in two kinds: `integer(_:)` throws when the key is missing, `optionalInteger(_:)` gives nil; both throw when the
/// value has another type. Keys that begin with a dot are those of the architecture: `integer(".block_count")` of a llama is
/// `llama.block_count`.
public struct GGUFMetadata: Sendable {
  /// The keys, in the file's order.
  public let keys: [String]
  private let values: [String: GGUFValue]
  private let url: URL

  init(keys: [String], values: [String: GGUFValue], url: URL) {
    self.keys = keys
    self.values = values
    self.url = url
  }

  /// The value under `key`, as it is stored.
  public subscript(key: String) -> GGUFValue? { values[expand(key)] }

  /// `general.architecture`: `llama`, `qwen2` …
  public var architecture: String? {
    if case .string(let name) = values["general.architecture"] { name } else { nil }
  }

  private func expand(_ key: String) -> String {
    key.hasPrefix(".") ? (architecture ?? "") + key : key
  }

  // MARK: Optional values

  public func optionalString(_ key: String) throws -> String? {
    try read(key, "a string") { if case .string(let text) = $0 { text } else { nil } }
  }

  public func optionalInteger(_ key: String) throws -> Int? { try read(key, "an integer") { $0.integer } }

  /// A number; an integer will do.
  public func optionalNumber(_ key: String) throws -> Double? { try read(key, "a number") { $0.number } }

  public func optionalBool(_ key: String) throws -> Bool? {
    try read(key, "a boolean") { if case .bool(let flag) = $0 { flag } else { nil } }
  }

  public func optionalStrings(_ key: String) throws -> [String]? {
    try read(key, "an array of strings") {
      switch $0 {
      case .array(.string(let texts)): texts
      case .array(let array) where array.count == 0: []
      default: nil
      }
    }
  }

  public func optionalIntegers(_ key: String) throws -> [Int]? {
    try read(key, "an array of integers") { if case .array(let array) = $0 { array.integers } else { nil } }
  }

  public func optionalNumbers(_ key: String) throws -> [Double]? {
    try read(key, "an array of numbers") { if case .array(let array) = $0 { array.numbers } else { nil } }
  }

  // MARK: Required values

  public func string(_ key: String) throws -> String { try require(key, try optionalString(key)) }
  public func integer(_ key: String) throws -> Int { try require(key, try optionalInteger(key)) }
  public func number(_ key: String) throws -> Double { try require(key, try optionalNumber(key)) }
  public func bool(_ key: String) throws -> Bool { try require(key, try optionalBool(key)) }
  public func strings(_ key: String) throws -> [String] { try require(key, try optionalStrings(key)) }
  public func integers(_ key: String) throws -> [Int] { try require(key, try optionalIntegers(key)) }
  public func numbers(_ key: String) throws -> [Double] { try require(key, try optionalNumbers(key)) }

  private func read<T>(_ key: String, _ wanted: String, _ convert: (GGUFValue) -> T?) throws -> T? {
    guard let value = self[key] else { return nil }
    guard let converted = convert(value) else {
      throw FormatError(
        .mismatch, in: url, "the metadata \(quoted(expand(key))) is \(value.kind), not \(wanted)",
        remedy: "Convert the model again with a current llama.cpp")
    }
    return converted
  }

  private func require<T>(_ key: String, _ value: T?) throws -> T {
    guard let value else {
      throw FormatError(
        .missing, in: url, "the metadata \(quoted(expand(key))) is missing",
        remedy: "The file is incomplete: convert the model again with a current llama.cpp")
    }
    return value
  }

  /// All scalars as text.
  var texts: [String: String] { values.compactMapValues(\.text) }
}
