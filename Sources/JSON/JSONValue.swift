import Foundation
import OrderedCollections

/// A JSON value that keeps the order of its objects' members.
///
/// Chat templates print dictionaries in the order in which they were written, and tokenizer files
/// give meaning to order, so the dictionary of Foundation's `JSONSerialization` does not do.
///
/// Integers that fit into `Int` are `.integer`; every other number is `.number`. The two compare as
/// different values; use ``intValue`` and ``doubleValue`` to read either.
public enum JSONValue: Sendable, Hashable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object(OrderedDictionary<String, JSONValue>)

  /// Parses one JSON document.
  ///
  /// - Throws: ``JSONError`` with line and column of the first byte that does not fit.
  public init(
    parsing data: Data, options: JSONParsingOptions = .init()
  ) throws(JSONError) {
    let result = data.withUnsafeBytes { bytes in
      JSONParser.parse(bytes.bindMemory(to: UInt8.self), options: options)
    }
    self = try result.get()
  }

  /// Parses one JSON document from a string.
  public init(
    parsing text: String, options: JSONParsingOptions = .init()
  ) throws(JSONError) {
    var text = text
    let result = text.withUTF8 { JSONParser.parse($0, options: options) }
    self = try result.get()
  }

  /// What kind of value this is, in the words of error messages: "an object", "a string" …
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool: "a boolean"
    case .integer: "an integer"
    case .number: "a number"
    case .string: "a string"
    case .array: "an array"
    case .object: "an object"
    }
  }
}

/// How ``JSONValue`` reads a document.
public struct JSONParsingOptions: Sendable, Hashable {
  /// Accept `NaN`, `Infinity` and `-Infinity`, as Python's `json` does. Off: they are no JSON.
  public var allowsNonFiniteNumbers: Bool
  /// How deeply arrays and objects may nest.
  public var maximumDepth: Int
  /// Read half of a UTF-16 surrogate pair (`"\ud83d"` alone) as U+FFFD instead of refusing it.
  public var replacesLoneSurrogates: Bool
  /// The objects, by the keys that lead to them, to be read as an array of `[key, value]` pairs.
  ///
  /// Swift compares strings by canonical equivalence: `"é"` as one scalar and as two are the same
  /// dictionary key. Vocabularies hold both, so a tokenizer reads its vocabulary with
  /// `objectsAsPairs: [["model", "vocab"]]`. Elsewhere two such keys are an error, never a loss.
  public var objectsAsPairs: Set<[String]>

  public init(
    allowsNonFiniteNumbers: Bool = false, maximumDepth: Int = 512,
    replacesLoneSurrogates: Bool = false, objectsAsPairs: Set<[String]> = []
  ) {
    self.allowsNonFiniteNumbers = allowsNonFiniteNumbers
    self.maximumDepth = maximumDepth
    self.replacesLoneSurrogates = replacesLoneSurrogates
    self.objectsAsPairs = objectsAsPairs
  }
}
