import JSON
import OrderedCollections

/// What a classifier tells apart, as `config.json` says it: `num_labels`, `id2label`, `label2id` and `problem_type`.
public struct ClassificationLabels: Sendable, Hashable {
  /// What the scores mean, and with it the loss: transformers' `problem_type`.
  public enum ProblemType: String, Sendable, Hashable, CaseIterable {
    /// One label is right: cross-entropy over the softmax of the scores.
    case singleLabel = "single_label_classification"
    /// Each label is right or not: cross-entropy of each score's sigmoid.
    case multiLabel = "multi_label_classification"
    /// The scores are numbers: squared error.
    case regression
  }

  /// The labels' names by their id.
  public let names: [String]
  /// Nil where it was never said; transformers then goes by the data.
  public var problemType: ProblemType?

  /// - Precondition: there is at least one name.
  public init(names: [String], problemType: ProblemType?) {
    precondition(!names.isEmpty, "a classifier has at least one output")
    self.names = names
    self.problemType = problemType
  }

  /// So many labels with the names that transformers gives those without: `LABEL_0`, `LABEL_1`, …
  public init(count: Int, problemType: ProblemType? = nil) {
    self.init(names: (0..<count).map { "LABEL_\($0)" }, problemType: problemType)
  }

  public var count: Int { names.count }

  /// Whether the names say no more than the ids do.
  public var areNumbered: Bool { names == ClassificationLabels(count: count).names }

  /// More labels than any data set has; a larger number is a mistake that would take all memory.
  public static let maximumCount = 1 << 20

  /// Reads what `config.json`, or a file with its keys, says. Without a word about labels there are two, as in transformers.
  ///
  /// - Throws: ``ModelError`` naming the key that contradicts itself or another.
  public init(_ configuration: ModelConfiguration) throws {
    let stated =
      configuration.json["num_labels"].map(\.isNull) ?? true
      ? nil : try configuration.integer("num_labels", maximum: Self.maximumCount)
    problemType = try Self.problemType(configuration)
    guard let table = try configuration.object("id2label")?.json.objectValue else {
      names = Self(count: stated ?? 2).names
      return
    }
    var names: [String?] = Array(repeating: nil, count: table.count)
    for (key, name) in table {
      guard let id = Int(key), names.indices.contains(id), names[id] == nil, let name = name.stringValue
      else {
        throw ModelError(
          "`id2label` in \(configuration.source) gives \(key) the name \(name.serialized()); it needs a text for each id "
            + "from 0 to \(table.count - 1).")
      }
      names[id] = name
    }
    guard !table.isEmpty, stated == nil || stated == table.count else {
      throw ModelError(
        "`id2label` in \(configuration.source) names \(table.count) labels, and `num_labels` is \(stated ?? 0). Make them agree."
      )
    }
    self.names = names.compactMap { $0 }
    for (name, id) in try configuration.object("label2id")?.json.objectValue ?? [:] {
      guard let id = id.intValue, self.names.indices.contains(id), self.names[id] == name else {
        throw ModelError(
          "`label2id` in \(configuration.source) gives `\(name)` the id \(id.serialized()), and `id2label` does not. Make them "
            + "agree.")
      }
    }
  }

  private static func problemType(_ configuration: ModelConfiguration) throws -> ProblemType? {
    guard configuration.json["problem_type"].map(\.isNull) == false else { return nil }
    let name = try configuration.string("problem_type")
    guard let known = ProblemType(rawValue: name) else {
      throw ModelError(
        "`problem_type` in \(configuration.source) is `\(name)`; it can be "
          + ProblemType.allCases.map(\.rawValue).joined(separator: ", ") + ".")
    }
    return known
  }

  /// Puts the keys into a `config.json`.
  public func write(to json: inout JSONValue) {
    json["id2label"] = .object(
      OrderedDictionary(uniqueKeysWithValues: names.enumerated().map { (String($0), .string($1)) }))
    json["label2id"] = .object(
      OrderedDictionary(
        names.enumerated().map { ($1, .integer($0)) }, uniquingKeysWith: { first, _ in first }))
    json["num_labels"] = nil
    json["problem_type"] = problemType.map { .string($0.rawValue) } ?? json["problem_type"]
  }
}
