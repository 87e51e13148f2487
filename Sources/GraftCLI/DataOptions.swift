import ArgumentParser
import Datasets

/// How a data file is read: shared by the commands that evaluate on one.
struct DataOptions: ParsableArguments {
  @Option(help: "Encoding of the data file, such as gb18030 (default: detected).")
  var encoding: String?

  @Option(help: "Form of the rows, such as messages or question-answer (default: by the columns).")
  var rowFormat: String?

  @Option(help: "Column of the prompt.")
  var promptColumn: String?

  @Option(help: "Column of the response.")
  var responseColumn: String?

  @Option(help: "Column of plain text.")
  var textColumn: String?

  @Option(help: "Column of a second text beside it, for classifiers.")
  var textPairColumn: String?

  @Option(help: "Column of the label, for classifiers (default: label).")
  var labelColumn: String?

  @Option(help: "System message of conversations that have none.")
  var systemPrompt: String?

  @Option(help: "Tokens of one sequence at most.")
  var maxLength = 1024

  @Option(help: "Use only the first so many rows.")
  var maxSamples: Int?

  func validate() throws {
    guard maxLength >= 2 else {
      throw ValidationError("--max-length \(maxLength) is too few; write 2 or more.")
    }
    if let maxSamples, maxSamples < 1 {
      throw ValidationError("--max-samples \(maxSamples) is too few; write 1 or more.")
    }
  }
}

extension DataOptions {
  /// The file, opened as these options say; a detected encoding is reported.
  func file(_ path: String) throws -> DataFile {
    let file = try DataFile(path, options: ReadingOptions(encoding: encoding))
    if let detection = file.detection, file.encoding != .utf8 { Console.message("\(path): \(detection)") }
    return file
  }

  var rowFormatOptions: RowFormatOptions {
    RowFormatOptions(
      format: rowFormat, promptColumn: promptColumn, responseColumn: responseColumn, textColumn: textColumn,
      systemPrompt: systemPrompt, labelColumn: labelColumn, textPairColumn: textPairColumn)
  }
}
