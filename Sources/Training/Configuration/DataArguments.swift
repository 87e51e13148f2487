import Foundation

/// Which rows a run learns from, and what their columns mean.
public struct DataArguments: ConfigurationGroup {
  /// Files of the training rows. Required.
  public var trainFile: [String] = []
  public var validationFile: [String] = []
  /// nil detects it.
  public var encoding: String?
  /// Name of a row format; nil goes by the columns.
  public var rowFormat: String?
  public var promptColumn: String?
  public var responseColumn: String?
  public var textColumn: String?
  public var textPairColumn: String?
  public var labelColumn: String?
  /// Text of a system message put before every conversation without one.
  public var systemPrompt: String?
  public var maxTrainSamples: Int?
  public var maxEvalSamples: Int?

  public init() {}

  /// Whether there is data to evaluate on.
  public var hasValidationData: Bool { !validationFile.isEmpty }

  public static let keys: [ConfigurationKey<DataArguments>] = {
    let section = "Data"
    return [
      .init(
        "train_file", in: section, \.trainFile,
        "CSV, TSV, JSON or JSONL files of the training rows. Required."),
      .init("validation_file", in: section, \.validationFile, "The same for validation."),
      .init(
        "encoding", in: section, \.encoding, "Encoding of the files, such as `gb18030`; `null` detects it."),
      .init(
        "row_format", in: section, \.rowFormat,
        "Form of the rows, such as `messages` or `question-answer`; `null` goes by the columns."),
      .init(
        "prompt_column", in: section, \.promptColumn, "Column of the prompt, if its name does not say so."),
      .init("response_column", in: section, \.responseColumn, "Column of the response, likewise."),
      .init("text_column", in: section, \.textColumn, "Column of plain text, likewise."),
      .init(
        "text_pair_column", in: section, \.textPairColumn,
        "With `task_type: SEQ_CLS`: column of a second text beside the first; `null` is `text_pair` where there is one."
      ),
      .init(
        "label_column", in: section, \.labelColumn,
        "With `task_type: SEQ_CLS`: column of the label, a text or a number, or a list of several; `null` is `label`."
      ),
      .init(
        "system_prompt", in: section, \.systemPrompt,
        "System message of every conversation that has none of its own."),
      .init("max_train_samples", in: section, \.maxTrainSamples, "Use only the first so many training rows."),
      .init("max_eval_samples", in: section, \.maxEvalSamples, "Use only the first so many validation rows."),
    ]
  }()

  /// Checks what can be checked without opening the files.
  ///
  /// - Throws: `ConfigurationError` about the first key that does not fit.
  public func validate() throws {
    func require(_ condition: Bool, _ key: String, _ problem: String, _ remedy: String) throws {
      if !condition { throw ConfigurationError("`\(key)` \(problem)", key: key, remedy: remedy) }
    }
    try require(
      !trainFile.isEmpty && !trainFile.contains(""), "train_file", "is missing",
      "name a CSV, TSV, JSON or JSONL file of rows to learn from")
    try require(
      !validationFile.contains(""), "validation_file", "holds an empty name", "name files, or remove the key")
    try require(
      textColumn == nil || (promptColumn == nil && responseColumn == nil), "text_column",
      "stands beside columns of another row format",
      "keep `text_column`, or `prompt_column` and `response_column`")
    for (key, value) in [("max_train_samples", maxTrainSamples), ("max_eval_samples", maxEvalSamples)] {
      if let value { try require(value >= 1, key, "is \(value)", "write 1 or more") }
    }
  }

  /// Checks that the files are there, which a run does before it loads a model.
  ///
  /// - Throws: `ConfigurationError` about the first file that is not.
  public func checkFiles() throws {
    for (key, files) in [("train_file", trainFile), ("validation_file", validationFile)] {
      for file in files {
        var isDirectory: ObjCBool = false
        guard FileManager.default.fileExists(atPath: file, isDirectory: &isDirectory) else {
          throw ConfigurationError(
            "`\(key)` names \(file), which does not exist", key: key,
            remedy: "check the path; relative ones start at \(FileManager.default.currentDirectoryPath)")
        }
        guard !isDirectory.boolValue else {
          throw ConfigurationError(
            "`\(key)` names \(file), a folder", key: key, remedy: "name the files in it")
        }
      }
    }
  }
}
