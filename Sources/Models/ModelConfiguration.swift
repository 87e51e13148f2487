import Foundation
import JSON
import NeuralNetworks
import Torch

/// `config.json`, with every look-up checked: a missing or ill-typed value throws an error that names key and file.
///
/// Keys that the model does not know are kept, so that a saved configuration has all that the loaded one had.
public struct ModelConfiguration: Sendable {
  /// The whole object.
  public var json: JSONValue
  /// Where it comes from, for messages.
  public let source: String
  /// The directory or file that the model was loaded from, which adapters record as their base.
  public var nameOrPath: String?

  public init(json: JSONValue, source: String) {
    self.json = json
    self.source = source
  }

  /// Reads `config.json` of a model directory.
  public init(directory: URL) throws {
    let file = directory.appendingPathComponent("config.json")
    let data: Data
    do {
      data = try Data(contentsOf: file)
    } catch {
      throw ModelError(
        "\(file.path) cannot be read (\(error.localizedDescription)). A model directory holds config.json beside its "
          + "weights; check the path, or download the model again.")
    }
    do {
      self.init(json: try JSONValue(parsing: data), source: file.path)
    } catch {
      throw ModelError("\(file.path) is not valid JSON: \(error). Download the file again.")
    }
    guard json.objectValue != nil else {
      throw ModelError("\(file.path) holds \(json.kind), not an object. Download the file again.")
    }
  }

  // MARK: Values

  private func value<Value>(
    _ key: String, _ kind: String, default fallback: Value?, _ convert: (JSONValue) -> Value?
  ) throws -> Value {
    guard let stored = json[key], !stored.isNull else {
      if let fallback { return fallback }
      throw ModelError("`\(key)` is missing from \(source); the model needs it. Download the file again.")
    }
    guard let value = convert(stored) else {
      throw ModelError("`\(key)` in \(source) is \(stored.serialized()), where \(kind) is wanted.")
    }
    return value
  }

  /// A whole number from `minimum` to `maximum`.
  public func integer(
    _ key: String, default fallback: Int? = nil, minimum: Int = 1, maximum: Int = Int(Int32.max)
  ) throws -> Int {
    // Above 2³¹ a size is a lie, and products of sizes would overflow.
    try value(key, "a whole number from \(minimum) to \(maximum)", default: fallback) {
      $0.intValue.flatMap { (minimum...maximum).contains($0) ? $0 : nil }
    }
  }

  public func number(_ key: String, default fallback: Double? = nil) throws -> Double {
    try value(key, "a number", default: fallback) { $0.doubleValue.flatMap { $0.isFinite ? $0 : nil } }
  }

  public func bool(_ key: String, default fallback: Bool? = nil) throws -> Bool {
    try value(key, "true or false", default: fallback) { $0.boolValue }
  }

  public func string(_ key: String, default fallback: String? = nil) throws -> String {
    try value(key, "a string", default: fallback) { $0.stringValue }
  }

  /// An object within this one, nil when there is none.
  public func object(_ key: String) throws -> ModelConfiguration? {
    guard let stored = json[key], !stored.isNull else { return nil }
    guard stored.objectValue != nil else {
      throw ModelError("`\(key)` in \(source) is \(stored.serialized()), where an object is wanted.")
    }
    return ModelConfiguration(json: stored, source: "`\(key)` in \(source)")
  }

  public func strings(_ key: String) throws -> [String]? {
    guard let stored = json[key], !stored.isNull else { return nil }
    let strings = stored.arrayValue?.compactMap(\.stringValue)
    guard let strings, strings.count == stored.arrayValue?.count else {
      throw ModelError("`\(key)` in \(source) is \(stored.serialized()), where a list of strings is wanted.")
    }
    return strings
  }

  // MARK: What every model has

  public var modelType: String { get throws { try string("model_type") } }

  /// The type that the weights were saved in (`torch_dtype`, or `dtype` in newer files).
  public var dtype: DType? {
    (json["dtype"] ?? json["torch_dtype"])?.stringValue.flatMap(DType.init(torchName:))
  }

  /// Tokens that end an answer; one or several in the file.
  public var endOfSequenceTokens: [Int] {
    guard let stored = json["eos_token_id"] else { return [] }
    return stored.intValue.map { [$0] } ?? stored.arrayValue?.compactMap(\.intValue) ?? []
  }

  /// The activation function under `key`.
  public func activation(_ key: String) throws -> Activation {
    let name = try string(key, default: "silu")
    guard let activation = Activation(name) else {
      throw ModelError(
        "`\(key)` in \(source) is `\(name)`, which Graft does not know; it knows silu, gelu, gelu_new, "
          + "gelu_pytorch_tanh and relu.")
    }
    return activation
  }
}
