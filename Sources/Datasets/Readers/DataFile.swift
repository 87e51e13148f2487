import Foundation

/// The kinds of data file there are.
public enum DataFileFormat: String, Sendable, Codable, CaseIterable {
  case csv, tsv, json, jsonl, text

  /// The format that a file's name says; JSON and JSON Lines are told apart by ``RowReader``s.
  public init?(pathExtension: String) {
    switch pathExtension.lowercased() {
    case "csv": self = .csv
    case "tsv", "tab": self = .tsv
    case "json": self = .json
    case "jsonl", "ndjson": self = .jsonl
    case "txt", "text", "md": self = .text
    default: return nil
    }
  }
}

/// How a data file is read.
public struct ReadingOptions: Sendable, Codable, Hashable {
  /// What the file is; `nil` goes by its name.
  public var format: DataFileFormat?
  /// The name of the text encoding; `nil` has it detected.
  public var encoding: String?
  /// Replace bytes that are no text in the encoding by U+FFFD; otherwise they are an error.
  public var replacesInvalidBytes: Bool
  /// Take tables as they come: missing fields are empty, extra ones dropped (and such rows counted), a
  /// stray quote is a character. Otherwise each is an error.
  public var isRelaxed: Bool
  /// The column names of a table whose first row is already data.
  public var columnNames: [String]?
  /// What makes a row of a text file.
  public var textUnit: TextUnit

  public enum TextUnit: String, Sendable, Codable, CaseIterable {
    /// Each line that is not blank.
    case line
    /// Lines up to the next blank one.
    case paragraph
    /// The whole file.
    case document
  }

  public init(
    format: DataFileFormat? = nil, encoding: String? = nil, replacesInvalidBytes: Bool = false,
    isRelaxed: Bool = false, columnNames: [String]? = nil, textUnit: TextUnit = .line
  ) {
    self.format = format
    self.encoding = encoding
    self.replacesInvalidBytes = replacesInvalidBytes
    self.isRelaxed = isRelaxed
    self.columnNames = columnNames
    self.textUnit = textUnit
  }
}

/// A data file whose format and encoding are settled, ready to be read any number of times.
public struct DataFile: Sendable {
  public let path: String
  public let format: DataFileFormat
  public let encoding: TextEncoding
  /// How the encoding was found; `nil` when it was given. Tell the user.
  public let detection: EncodingDetection?
  public let options: ReadingOptions

  /// - Throws: ``DataError`` when the file cannot be read, or its format or encoding not be told.
  public init(_ path: String, options: ReadingOptions = .init()) throws {
    self.path = path
    self.options = options
    guard
      let format = options.format
        ?? DataFileFormat(pathExtension: URL(fileURLWithPath: path).pathExtension)
    else {
      throw DataError(
        "the file's name does not say what format it has", at: .init(file: path),
        remedy: "Name the format: \(DataFileFormat.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    self.format = format
    if let name = options.encoding {
      _ = try ByteFile(path)  // a missing file is the error to report first
      encoding = TextEncoding(name)
      _ = try TextDecoder(encoding)
      detection = nil
    } else {
      let detection = try EncodingDetection.detect(path)
      encoding = detection.encoding
      self.detection = detection
    }
  }

  /// A reader at the file's first row.
  public func reader() throws -> any RowReader {
    let source = try TextSource(
      path, encoding: encoding, invalidBytes: options.replacesInvalidBytes ? .replace : .fail)
    switch format {
    case .csv: return try DelimitedReader(source, delimiter: .comma, options: options)
    case .tsv: return try DelimitedReader(source, delimiter: .tab, options: options)
    case .json: return try JSONReader(source)
    case .jsonl: return JSONLinesReader(source)
    case .text: return TextReader(source, unit: options.textUnit)
    }
  }
}
