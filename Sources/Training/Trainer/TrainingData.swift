import Datasets
import Generation
import Models

/// The rows of a run's files as tokens and labels.
public struct TrainingData: Sendable {
  public let train: ExampleList
  public let validation: ExampleList?
  public let trainReport: EncodingReport
  public let validationReport: EncodingReport?
  /// What the rows are labelled with; nil where text is learnt.
  public let labels: LabelSet?

  /// Reads and encodes what `data` names, as `arguments` say.
  ///
  /// - Parameter labels: makes the labels that all rows must have of the training files; nil learns text.
  /// - Throws: `DataError` naming file, row and remedy, also when no row can be trained on.
  public init(
    _ data: DataArguments, _ arguments: TrainingArguments, tokenizer: ChatTokenizer,
    labels makeLabels: (([DataFile]) throws -> LabelSet)? = nil
  ) async throws {
    let reading = ReadingOptions(encoding: data.encoding)
    let trainFiles = try data.trainFile.map { try DataFile($0, options: reading) }
    labels = try makeLabels?(trainFiles)
    let encoder = ExampleEncoder(
      TextTokenization(
        tokenizer.tokenizer, chatTemplate: tokenizer.chatTemplate, identity: tokenizer.identity),
      options: EncodingOptions(arguments))
    var rowFormat = RowFormatOptions(data)
    rowFormat.labels = labels
    let dataset = DatasetEncoder(encoder, rowFormat: rowFormat)

    let train = try await dataset.examples(of: trainFiles, limit: data.maxTrainSamples)
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

extension RunConfiguration {
  /// Makes the labels of the training files that a classifier learns; nil for a language model.
  ///
  /// - Parameter model: what the base's files say; nil for one without a head for labels.
  func labels(for model: ClassificationLabels?) -> (([DataFile]) throws -> LabelSet)? {
    guard task == .sequenceClassification else { return nil }
    return {
      try LabelSet(
        of: $0, for: model, numLabels: self.model.numLabels, problemType: self.model.problemType?.type,
        column: data.labelColumn, limit: data.maxTrainSamples)
    }
  }
}

extension PretrainedSource {
  /// What the stored model tells apart; nil when it has no head for labels.
  ///
  /// - Throws: `ModelError` when its `config.json` contradicts itself.
  public var classificationLabels: ClassificationLabels? {
    get throws { task == .sequenceClassification ? try ClassificationLabels(configuration) : nil }
  }
}

extension ExampleList {
  /// The rows of data files as tokens and labels, in memory: what a `Trainer` trains and evaluates on.
  ///
  /// ```swift
  /// let examples = try await ExampleList(contentsOf: "train.jsonl", tokenizer: tokenizer)
  /// ```
  ///
  /// Rows in any form that ``RowFormats`` knows; conversations go through the tokenizer's chat template, and the
  /// assistant's turns carry the loss.
  ///
  /// - Throws: `DataError` naming file, row and remedy, also when no row can be trained on.
  public init(
    contentsOf paths: String..., tokenizer: ChatTokenizer, maxLength: Int? = 1024,
    rowFormat: RowFormatOptions = .init(), encoding: String? = nil, limit: Int? = nil
  ) async throws {
    let encoder = ExampleEncoder(
      TextTokenization(
        tokenizer.tokenizer, chatTemplate: tokenizer.chatTemplate, identity: tokenizer.identity),
      options: EncodingOptions(maxLength: maxLength))
    let files = try paths.map { try DataFile($0, options: ReadingOptions(encoding: encoding)) }
    self = try await DatasetEncoder(encoder, rowFormat: rowFormat).examples(of: files, limit: limit).examples
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
      textColumn: data.textColumn, systemPrompt: data.systemPrompt, labelColumn: data.labelColumn,
      textPairColumn: data.textPairColumn)
  }
}

extension BatchingOptions {
  /// The part of the training arguments that decides what makes a batch.
  init(_ arguments: TrainingArguments) {
    self.init(
      perDeviceTrainBatchSize: arguments.perDeviceTrainBatchSize, packing: arguments.packing ? .bfd : .none,
      groupByLength: arguments.groupByLength, maxLength: arguments.maxLength,
      shuffles: arguments.trainSamplingStrategy != .sequential,
      dataloaderDropLast: arguments.dataloaderDropLast, seed: arguments.dataSeed ?? arguments.seed)
  }
}
