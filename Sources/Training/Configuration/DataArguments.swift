/// Which rows a run learns from, and what their columns mean.
public struct DataArguments: ConfigurationGroup {
  /// Files of the training rows. Required.
  public var trainFile: [String] = []
  public var validationFile: [String] = []
  /// Fraction of the training rows to hold out for validation.
  public var validationSplit: Double?
  /// nil detects it.
  public var encoding: String?
  public var promptColumn: String?
  public var responseColumn: String?
  public var systemColumn: String?
  public var messagesColumn: String?
  public var textColumn: String?
  public var toolsColumn: String?
  /// Text of a system message put before every conversation without one.
  public var systemPrompt: String?
  /// JSON file of tools offered in every conversation.
  public var toolsFile: String?
  public var maxTrainSamples: Int?
  public var maxEvalSamples: Int?

  public init() {}

  /// Whether there is data to evaluate on.
  public var hasValidationData: Bool { !validationFile.isEmpty || validationSplit != nil }

  public static let keys: [ConfigurationKey<DataArguments>] = {
    let section = "Data"
    return [
      .init(
        "train_file", in: section, \.trainFile,
        "CSV, TSV, JSON or JSONL files of the training rows. Required."),
      .init("validation_file", in: section, \.validationFile, "The same for validation."),
      .init(
        "validation_split", in: section, \.validationSplit,
        "Without a `validation_file`: fraction of the training rows to hold out, chosen by `data_seed`."),
      .init(
        "encoding", in: section, \.encoding, "Encoding of the files, such as `gb18030`; `null` detects it."),
      .init(
        "prompt_column", in: section, \.promptColumn,
        "Column of the prompt; `null` finds `prompt`, `question`, `instruction` and the like."),
      .init(
        "response_column", in: section, \.responseColumn,
        "Column of the response; `null` finds `completion`, `answer`, `output` and the like."),
      .init("system_column", in: section, \.systemColumn, "Column of each row's own system message."),
      .init(
        "messages_column", in: section, \.messagesColumn,
        "Column of whole conversations; `null` finds `messages` and `conversations`."),
      .init("text_column", in: section, \.textColumn, "Column of plain text; `null` finds `text`."),
      .init("tools_column", in: section, \.toolsColumn, "Column of the tools that a conversation offers."),
      .init(
        "system_prompt", in: section, \.systemPrompt,
        "System message of every conversation that has none of its own."),
      .init(
        "tools_file", in: section, \.toolsFile,
        "JSON file with a list of tools that every conversation offers."),
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
    if let validationSplit {
      try require(
        validationSplit > 0 && validationSplit < 1, "validation_split", "is \(validationSplit)",
        "write a fraction between 0 and 1, such as 0.05")
      try require(
        validationFile.isEmpty, "validation_split", "stands beside `validation_file`", "keep one of the two")
    }
    try require(
      messagesColumn == nil || (promptColumn == nil && responseColumn == nil && textColumn == nil),
      "messages_column",
      "stands beside columns of another row format", "keep `messages_column`, or the others")
    try require(
      textColumn == nil || (promptColumn == nil && responseColumn == nil), "text_column",
      "stands beside columns of another row format",
      "keep `text_column`, or `prompt_column` and `response_column`")
    for (key, value) in [("max_train_samples", maxTrainSamples), ("max_eval_samples", maxEvalSamples)] {
      if let value { try require(value >= 1, key, "is \(value)", "write 1 or more") }
    }
  }
}
