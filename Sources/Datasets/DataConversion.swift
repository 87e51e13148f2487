import Files
import Foundation
import JSON

/// What `graft data convert` does: data files of any form and encoding to a training and a validation file.
///
/// Rows go to training first, then to validation, in the files' order or a seeded one. Both files appear only
/// when both are complete.
public struct DataConversion: Sendable, Codable, Hashable {
  /// A column of the output and the one of the input that it is taken from.
  public struct Column: Sendable, Codable, Hashable {
    public var name: String
    public var source: String

    public init(name: String, source: String) {
      self.name = name
      self.source = source
    }

    /// Reads `question=ask,answer` : `question` from `ask`, `answer` as it is.
    ///
    /// - Throws: ``DataError`` that shows the form.
    public static func list(parsing text: String) throws -> [Column] {
      let columns = try text.split(separator: ",", omittingEmptySubsequences: false).map { part in
        let names = part.split(separator: "=", omittingEmptySubsequences: false).map {
          ExactMatch.trimmed(String($0))
        }
        guard names.count <= 2, names.allSatisfy({ !$0.isEmpty }) else {
          throw DataError(
            "`\(part)` is no column",
            remedy: "Write NEW=OLD or NAME, separated by commas: question=ask,answer")
        }
        return Column(name: names[0], source: names[names.count - 1])
      }
      try checkNames(of: columns)
      return columns
    }

    static func checkNames(of columns: [Column]) throws {
      if let twice = columns.first(where: { column in columns.count { $0.name == column.name } > 1 }) {
        throw DataError("two columns are to be called `\(twice.name)`", remedy: "Give them different names")
      }
    }
  }

  /// How many rows.
  public enum Size: Sendable, Codable, Hashable {
    case count(Int)
    /// Of the usable rows; from 0 to 1.
    case fraction(Double)
    /// All that are left.
    case rest

    /// Reads `5000`, `0.9`, `90%` or `rest`.
    public init(parsing text: String) throws {
      if text == "rest" {
        self = .rest
      } else if let count = Int(text), count >= 0 {
        self = .count(count)
      } else if let percentage = text.hasSuffix("%") ? Double(text.dropLast()) : nil,
        (0...100).contains(percentage)
      {
        self = .fraction(percentage / 100)
      } else if let fraction = Double(text), (0...1).contains(fraction) {
        self = .fraction(fraction)
      } else {
        throw DataError(
          "`\(text)` is no number of rows", remedy: "Write a count (5000), a fraction (0.9), 90% or rest")
      }
    }
  }

  public enum OutputFormat: String, Sendable, Codable, CaseIterable {
    /// An array, indented by 4, other scripts than Latin readable: Python's
    /// `json.dump(rows, file, ensure_ascii=False, indent=4)`.
    case json
    case jsonl
  }

  public var inputs: [String]
  public var reading: ReadingOptions
  /// `nil` keeps all columns.
  public var columns: [Column]?
  public var train: Size
  public var validation: Size
  /// `nil` keeps the files' order.
  public var shuffleSeed: UInt64?
  /// Leave out rows that are equal, in the chosen columns, to an earlier one.
  public var dropsDuplicates: Bool
  public var format: OutputFormat

  public init(
    inputs: [String], reading: ReadingOptions = .init(), columns: [Column]? = nil, train: Size = .rest,
    validation: Size = .count(0), shuffleSeed: UInt64? = nil, dropsDuplicates: Bool = false,
    format: OutputFormat = .json
  ) {
    self.inputs = inputs
    self.reading = reading
    self.columns = columns
    self.train = train
    self.validation = validation
    self.shuffleSeed = shuffleSeed
    self.dropsDuplicates = dropsDuplicates
    self.format = format
  }

  /// What was found and written.
  public struct Report: Sendable, Codable, Hashable, CustomStringConvertible {
    public var rowsRead = 0
    /// Rows with an empty value in a chosen column or, where none are chosen, without any value.
    public var droppedEmpty = 0
    public var droppedDuplicates = 0
    /// Bytes that were no text in the encoding.
    public var replacedBytes = 0
    /// Rows with too few or too many fields that were made to fit.
    public var adjustedRows = 0
    public var trainRows = 0
    public var validationRows = 0
    /// A line for each input whose encoding was detected.
    public var encodings: [String] = []

    public init() {}

    public var description: String {
      var lines = encodings
      lines.append("\(rowsRead) rows read, \(trainRows) for training, \(validationRows) for validation")
      if droppedEmpty > 0 { lines.append("\(droppedEmpty) dropped with an empty field") }
      if droppedDuplicates > 0 { lines.append("\(droppedDuplicates) dropped as duplicates") }
      if adjustedRows > 0 { lines.append("\(adjustedRows) rows did not have as many fields as the header") }
      if replacedBytes > 0 { lines.append("\(replacedBytes) invalid bytes replaced by U+FFFD") }
      return lines.joined(separator: "\n")
    }
  }

  /// Reads, splits and writes.
  ///
  /// - Parameters:
  ///   - trainPath: where the training rows go.
  ///   - validationPath: where the validation rows go; may be `nil` when there are none.
  /// - Throws: ``DataError`` when an input cannot be read, has no such column, or has too few rows; then
  ///   nothing is written.
  public func run(trainPath: String, validationPath: String?) throws -> Report {
    try validate(trainPath: trainPath, validationPath: validationPath)
    var report = Report()
    let files = try inputs.map { try DataFile($0, options: reading) }
    report.encodings = files.compactMap { file in file.detection.map { "\(file.path): \($0)" } }

    let rows = try collect(files, into: &report)
    let (trainCount, validationCount) = try counts(of: rows.count)
    let order: [Int]
    if let shuffleSeed {
      var shuffled = Array(rows.indices)
      var generator = ShuffleGenerator(seed: shuffleSeed)
      generator.shuffle(&shuffled)
      order = shuffled
    } else {
      order = Array(rows.indices)
    }
    report.trainRows = trainCount
    report.validationRows = validationCount

    let trainFile = try write(order[..<trainCount].lazy.map { rows[$0] }, to: trainPath)
    let validationFile = try validationPath.map {
      try write(order[trainCount..<trainCount + validationCount].lazy.map { rows[$0] }, to: $0)
    }
    try trainFile.commit()
    try validationFile?.commit()
    return report
  }

  private func validate(trainPath: String, validationPath: String?) throws {
    guard !inputs.isEmpty else {
      throw DataError("there is no input file", remedy: "Name at least one data file")
    }
    try Column.checkNames(of: columns ?? [])
    guard validation == .count(0) || validationPath != nil else {
      throw DataError("there is no file for the validation rows", remedy: "Name one (--validation-file)")
    }
    if trainPath == validationPath {
      throw DataError(
        "training and validation rows are to go into the same file", at: .init(file: trainPath),
        remedy: "Name two files")
    }
    if train == .rest && validation == .rest {
      throw DataError(
        "both training and validation are to have the rest of the rows", remedy: "Give one of them a number")
    }
    if case .fraction(let left) = train, case .fraction(let right) = validation, left + right > 1 + 1e-9 {
      throw DataError(
        "training and validation together are to have more than all rows",
        remedy: "Choose fractions whose sum is at most 1")
    }
  }

  /// All usable rows as objects of the chosen columns. When nothing but counts is asked for, reading stops
  /// as soon as there are enough.
  private func collect(_ files: [DataFile], into report: inout Report) throws -> [JSONValue] {
    var enough = Int.max
    if shuffleSeed == nil, case .count(let left) = train, case .count(let right) = validation {
      enough = left + right
    }
    var rows: [JSONValue] = []
    var seen: Set<JSONValue> = []
    for file in files where rows.count < enough {
      let reader = try file.reader()
      while rows.count < enough, let row = try reader.next() {
        report.rowsRead += 1
        let members = try chosen(row)
        // A column that nobody asked for may be empty, as `input` in Alpaca's form often is.
        let isEmpty =
          columns == nil
          ? members.allSatisfy { Self.isEmpty($0.1) } : members.contains { Self.isEmpty($0.1) }
        if isEmpty {
          report.droppedEmpty += 1
          continue
        }
        let value = JSONValue.object(.init(uniqueKeysWithValues: members))
        if dropsDuplicates, !seen.insert(value).inserted {
          report.droppedDuplicates += 1
          continue
        }
        rows.append(value)
      }
      report.replacedBytes += reader.replacedBytes
      report.adjustedRows += reader.adjustedRows
    }
    return rows
  }

  private func chosen(_ row: Row) throws -> [(String, JSONValue)] {
    guard let columns else { return Array(zip(row.columns, row.values)) }
    return try columns.map { column in
      guard let value = row[column.source] else {
        throw DataError(
          "there is no column `\(column.source)`", at: row.location,
          remedy: "The row has \(Row.list(row.columns)); choose with --columns NEW=OLD,…")
      }
      return (column.name, value)
    }
  }

  private static func isEmpty(_ value: JSONValue) -> Bool {
    switch value {
    case .null: true
    case .string(let text): text.unicodeScalars.allSatisfy(\.properties.isWhitespace)
    case .array(let elements): elements.isEmpty
    case .object(let members): members.isEmpty
    case .bool, .integer, .number: false
    }
  }

  private func counts(of total: Int) throws -> (train: Int, validation: Int) {
    func count(_ size: Size) -> Int? {
      switch size {
      case .count(let count): count
      case .fraction(let fraction): Int((fraction * Double(total)).rounded(.down))
      case .rest: nil
      }
    }
    let train = count(train) ?? max(0, total - (count(validation) ?? 0))
    let validation = count(validation) ?? max(0, total - train)
    guard train + validation <= total else {
      throw DataError(
        "\(train) training and \(validation) validation rows were asked for, but only \(total) rows are usable",
        at: .init(file: inputs.joined(separator: ", ")),
        remedy: "Ask for fewer rows, or name more input files")
    }
    guard train > 0 else {
      throw DataError(
        "no row is left for training (\(total) rows are usable)",
        at: .init(file: inputs.joined(separator: ", ")),
        remedy: "Check the columns: rows with an empty field are dropped")
    }
    return (train, validation)
  }

  private func write(_ rows: some Collection<JSONValue>, to path: String) throws -> AtomicFile {
    let file = try AtomicFile(URL(fileURLWithPath: path))
    switch format {
    case .jsonl:
      for row in rows {
        try file.write(row.serialized())
        try file.write("\n")
      }
    case .json:
      guard !rows.isEmpty else {
        try file.write("[]")
        return file
      }
      try file.write("[\n")
      for (index, row) in rows.enumerated() {
        if index > 0 { try file.write(",\n") }
        // Line breaks in the data are escaped, so every one here is the layout's.
        let text = row.serialized(indent: 4)
        try file.write("    ")
        try file.write(text.utf8.flatMap { $0 == 0x0A ? Array("\n    ".utf8) : [$0] })
      }
      try file.write("\n]")
    }
    return file
  }
}
