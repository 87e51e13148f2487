import Datasets
import Generation

/// The rows of a run's files as tokens and labels.
public struct TrainingData: Sendable {
  public let train: ExampleList
  public let validation: ExampleList?
  public let trainReport: EncodingReport
  public let validationReport: EncodingReport?

  /// Reads and encodes what `data` names, as `arguments` say.
  ///
  /// - Throws: `DataError` naming file, row and remedy, also when no row can be trained on.
  public init(_ data: DataArguments, _ arguments: TrainingArguments, tokenizer: ChatTokenizer) async throws {
    let encoder = ExampleEncoder(
      TextTokenization(
        tokenizer.tokenizer, chatTemplate: tokenizer.chatTemplate, identity: tokenizer.identity),
      options: EncodingOptions(arguments))
    let dataset = DatasetEncoder(encoder, rowFormat: RowFormatOptions(data))
    let reading = ReadingOptions(encoding: data.encoding)

    let train = try await dataset.examples(
      of: data.trainFile.map { try DataFile($0, options: reading) }, limit: data.maxTrainSamples)
    (self.train, trainReport) = (train.examples, train.report)
    if data.validationFile.isEmpty {
      (validation, validationReport) = (nil, nil)
    } else {
      let validation = try await dataset.examples(
        of: data.validationFile.map { try DataFile($0, options: reading) }, limit: data.maxEvalSamples)
      (self.validation, validationReport) = (validation.examples, validation.report)
    }
  }
}

extension EncodingOptions {
  /// The part of the training arguments that concerns single rows.
  init(_ arguments: TrainingArguments) {
    self.init(maxLength: arguments.maxLength, trainOnInputs: arguments.trainsOnInputs)
    switch arguments.truncationMode {
    case .keepStart: truncationMode = .keepStart
    case .keepEnd: truncationMode = .keepEnd
    case .drop: overlong = .drop
    case .error: overlong = .error
    }
  }
}

extension RowFormatOptions {
  init(_ data: DataArguments) {
    self.init(
      format: data.rowFormat, promptColumn: data.promptColumn, responseColumn: data.responseColumn,
      textColumn: data.textColumn, systemPrompt: data.systemPrompt)
  }
}
