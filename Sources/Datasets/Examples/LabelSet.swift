import JSON

/// What the rows of a data set can be labelled with, and the numbers that a label becomes.
public struct LabelSet: Sendable, Codable, Hashable {
  /// What a row's label is.
  public enum Kind: String, Sendable, Codable, CaseIterable {
    /// One of the names.
    case oneOf = "one_of"
    /// Any number of the names.
    case anyOf = "any_of"
    /// A number for each of the names, usually one in all.
    case numbers
  }

  public let kind: Kind
  /// By their ids.
  public let names: [String]

  public init(_ kind: Kind, names: [String]) {
    self.kind = kind
    self.names = names
  }

  /// What has to be known before the labels of some data can be: what the user or the model says.
  public struct Expectation: Sendable, Hashable {
    public var kind: Kind?
    public var count: Int?
    public var names: [String]?

    /// - Parameter names: of a model that has them; nil takes them from the data.
    public init(kind: Kind? = nil, count: Int? = nil, names: [String]? = nil) {
      self.kind = kind
      self.count = count
      self.names = names
    }
  }

  /// The labels of data files: texts in the order of their code points, whole numbers by size. Numbers with a fraction make it
  /// ``Kind/numbers``, lists ``Kind/anyOf``; a list of as many zeros and ones in every row has one for each label.
  ///
  /// - Parameter limit: how many rows are read at most.
  /// - Throws: ``DataError`` for a row without a label or with one of another kind, and for another number of labels than is
  ///   expected.
  public init(
    of files: [DataFile], column: String, expecting expectation: Expectation = .init(), limit: Int? = nil
  ) throws {
    var found = LabelSummary()
    var rows = 0
    for file in files {
      let reader = try file.reader()
      while rows < limit ?? .max, let row = try reader.next() {
        rows += 1
        try found.add(Label(of: row, in: column, isTable: file.isTable), at: row.location)
      }
    }
    let path = files.map(\.path).joined(separator: ", ")
    guard rows > 0 else {
      throw DataError(
        "the file holds no rows", at: .init(file: path), remedy: "Check that it is the right one")
    }
    kind = expectation.kind ?? found.kind
    if let names = expectation.names {
      self.names = names
      return
    }
    names = try found.names(of: kind, count: expectation.count, at: .init(file: path))
  }

  /// The numbers that `row`'s label becomes, by the ids of `ids`.
  func target(of row: Row, column: String, ids: [String: Int]) throws -> [Float] {
    // Tables have nothing but texts, which are numbers where those are wanted.
    let label = try Label(of: row, in: column, isTable: kind == .numbers)
    func unfit(_ what: String, _ remedy: String) -> DataError {
      DataError("`\(column)` is \(label.summary), \(what)", at: row.location, remedy: remedy)
    }
    func id(_ label: Label) throws -> Int {
      if case .one(let value) = label {
        if let id = ids[value.text] ?? value.integer.flatMap({ ids[String($0)] }) { return id }
        // Ids, where no name is a number.
        if let id = value.integer, names.indices.contains(id), !names.contains(where: { Int($0) != nil }) {
          return id
        }
      }
      let known = names.prefix(10).map { "`\($0)`" }.joined(separator: ", ") + (names.count > 10 ? ", …" : "")
      throw unfit(
        "which is none of the \(names.count) labels \(known)",
        "Labels are those of the training data, or of the model; correct the row, or train with rows of this label"
      )
    }
    switch kind {
    case .oneOf:
      guard case .one = label else {
        throw unfit(
          "where one label is needed", "Set problem_type: multi_label_classification for lists of labels")
      }
      return [Float(try id(label))]
    case .anyOf:
      guard case .many(let values) = label else {
        throw unfit(
          "where a list of labels is needed",
          "Write [\"…\"], or set problem_type: single_label_classification")
      }
      if let numbers = label.indicators, numbers.count == names.count { return numbers }
      var target = [Float](repeating: 0, count: names.count)
      for value in values { target[try id(.one(value))] = 1 }
      return target
    case .numbers:
      guard let numbers = label.numbers, numbers.count == names.count else {
        throw unfit(
          "where \(names.count == 1 ? "a number is" : "\(names.count) numbers are") needed",
          "Write numbers, or set problem_type to what the labels are")
      }
      return numbers
    }
  }

  /// The names by which labels are looked up.
  var ids: [String: Int] {
    Dictionary(names.enumerated().map { ($1, $0) }, uniquingKeysWith: { first, _ in first })
  }
}

/// A label as a row holds it.
enum Label: Hashable {
  enum Value: Hashable {
    case text(String)
    case integer(Int)
    case number(Double)

    var text: String {
      switch self {
      case .text(let text): text
      case .integer(let integer): String(integer)
      case .number(let number): JSONValue.number(number).serialized()
      }
    }

    var integer: Int? {
      switch self {
      case .text(let text): Int(text)
      case .integer(let integer): integer
      case .number: nil
      }
    }

    var number: Float? {
      switch self {
      case .text: nil
      case .integer(let integer): Float(integer)
      case .number(let number): Float(number)
      }
    }
  }

  case one(Value)
  case many([Value])

  /// - Parameter isTable: whether texts can be numbers, as a table has nothing but texts.
  /// - Throws: ``DataError`` for a row without a label.
  init(of row: Row, in column: String, isTable: Bool) throws {
    func value(_ json: JSONValue) -> Value? {
      switch json {
      case .string(let text):
        if isTable, let integer = Int(text) { return .integer(integer) }
        if isTable, let number = Double(text), number.isFinite { return .number(number) }
        return text.isEmpty ? nil : .text(text)
      case .bool(let flag): return .text(flag ? "true" : "false")
      case .integer(let integer): return .integer(integer)
      case .number(let number): return number.isFinite ? .number(number) : nil
      case .null, .array, .object: return nil
      }
    }
    guard let stored = row[column] else {
      throw DataError(
        "there is no column `\(column)`, which says the row's label", at: row.location,
        remedy: "Name the column of the labels (label_column); the row has \(Row.list(row.columns))")
    }
    if case .array(let elements) = stored {
      let values = elements.compactMap(value)
      guard values.count == elements.count else {
        throw DataError(
          "`\(column)` is a list of something else than texts and numbers", at: row.location,
          remedy: "Write a list of labels, or of a number for each")
      }
      self = .many(values)
    } else if let value = value(stored) {
      self = .one(value)
    } else {
      let what = stored == "" ? "empty" : stored.isNull ? "null" : stored.kind
      throw DataError(
        "`\(column)` is \(what), and every row needs a label", at: row.location,
        remedy: "Write a text or a number, or a list of several labels; leave out rows without one")
    }
  }

  var values: [Value] {
    switch self {
    case .one(let value): [value]
    case .many(let values): values
    }
  }

  /// The numbers, when there is nothing else.
  var numbers: [Float]? {
    let numbers = values.compactMap(\.number)
    return numbers.count == values.count ? numbers : nil
  }

  /// Zeros and ones alone.
  var indicators: [Float]? {
    guard case .many = self, let numbers, numbers.allSatisfy({ $0 == 0 || $0 == 1 }) else { return nil }
    return numbers
  }

  /// For messages.
  var summary: String {
    switch self {
    case .one(let value): "`\(value.text)`"
    case .many(let values): "the list [\(values.map(\.text).joined(separator: ", "))]"
    }
  }
}

/// What the labels of a file amount to.
private struct LabelSummary {
  private var texts: Set<String> = []
  private var integers: Set<Int> = []
  private var hasFractions = false
  private var areLists: Bool?
  /// The length of the lists, while all are of one length.
  private var length: Int?
  private var hasLengths = false
  /// Whether every list is of zeros and ones.
  private var areIndicators = true

  mutating func add(_ label: Label, at location: DataError.Location) throws {
    let isList: Bool
    if case .many(let values) = label {
      isList = true
      areIndicators = areIndicators && label.indicators != nil
      length = hasLengths && length != values.count ? nil : values.count
      hasLengths = true
    } else {
      isList = false
    }
    guard areLists ?? isList == isList else {
      throw DataError(
        "the label is \(isList ? "a list" : "no list"), unlike those of earlier rows", at: location,
        remedy: "Write lists in all rows, or in none")
    }
    areLists = isList
    for value in label.values {
      switch value {
      case .text(let text): texts.insert(text)
      case .integer(let integer): integers.insert(integer)
      case .number: hasFractions = true
      }
    }
    guard !hasFractions || texts.isEmpty else {
      throw DataError(
        "the labels are numbers with a fraction in some rows and texts in others", at: location,
        remedy: "Write one or the other")
    }
  }

  /// Whether there is a zero or a one for each label.
  private var haveIndicators: Bool { areLists == true && areIndicators && length ?? 0 > 1 }

  var kind: LabelSet.Kind {
    if haveIndicators { return .anyOf }
    if hasFractions { return .numbers }
    return areLists == true ? .anyOf : .oneOf
  }

  func names(of kind: LabelSet.Kind, count: Int?, at location: DataError.Location) throws -> [String] {
    func numbered(_ count: Int) -> [String] { (0..<count).map { "LABEL_\($0)" } }
    func check(_ found: Int, _ what: String) throws {
      guard count ?? found == found else {
        throw DataError(
          "the data has \(found) \(what), and `num_labels` is \(count!)", at: location,
          remedy: "Leave num_labels out, or correct the data")
      }
    }
    if kind == .numbers || (kind == .anyOf && haveIndicators) {
      let width = areLists == true ? length ?? 0 : 1
      try check(width, kind == .numbers ? "numbers a row" : "labels a row")
      return numbered(max(width, 1))
    }
    let found =
      integers.sorted().map(String.init)
      + texts.sorted { $0.unicodeScalars.lexicographicallyPrecedes($1.unicodeScalars) }
    // Ids, of which the data need not have every one.
    if let count, texts.isEmpty, integers.allSatisfy({ (0..<count).contains($0) }) {
      return (0..<count).map(String.init)
    }
    try check(found.count, "different labels (\(found.prefix(5).joined(separator: ", ")))")
    guard found.count > 1 || kind == .anyOf else {
      throw DataError(
        "every row has the label `\(found.first ?? "")`, so that there is nothing to tell apart",
        at: location,
        remedy: "Add rows of other labels, or set problem_type: regression if the label is a number")
    }
    guard !found.isEmpty else {
      throw DataError("no row has a label", at: location, remedy: "Add rows with labels")
    }
    return found
  }
}

extension DataFile {
  /// Whether the file has nothing but texts.
  var isTable: Bool { format == .csv || format == .tsv }
}
