import Adapters
import Datasets
import Generation
import Models
import OrderedCollections
import Torch

/// Gives texts labels, and measures how well it does on data, with the adapters that are active on a model.
///
/// ```swift
/// let model = try AutoPEFTModelForSequenceClassification.fromPretrained("runs/intents")
/// let classifier = try TextClassifier(model, tokenizer: AutoTokenizer.fromPretrained("runs/intents"))
/// print(try classifier.classify(["switch the fan off"])[0].label ?? "")
/// ```
public struct TextClassifier {
  public let model: PEFTModel
  public let tokenizer: ChatTokenizer
  /// What the model tells apart.
  public let labels: ClassificationLabels
  /// Texts of one forward pass.
  public var batchSize = 8
  /// How texts become tokens.
  public var encoding = EncodingOptions(maxLength: nil)
  /// Asked between batches; true ends the work with a `CancellationError`.
  public var shouldStop: () -> Bool = { false }

  private let base: any SequenceClassificationModel

  /// - Throws: `ModelError` for a model that writes text.
  public init(_ model: PEFTModel, tokenizer: ChatTokenizer) throws {
    base = try model.sequenceClassificationModel()
    self.model = model
    self.tokenizer = tokenizer
    var labels = base.labels
    // As transformers has it: one score is a number, and of several one is right.
    labels.problemType = labels.problemType ?? (labels.count == 1 ? .regression : .singleLabel)
    self.labels = labels
  }

  /// What a text was given.
  public struct Prediction: Sendable, Hashable {
    /// The model's scores before they become probabilities, one for each label.
    public let logits: [Float]
    /// The probability of each label; for numbers the numbers themselves.
    public let values: OrderedDictionary<String, Double>
    /// The labels that are right: one, or where a text can have any number of them those of a probability above a half.
    public let labels: [String]

    /// The label, when there is one.
    public var label: String? { labels.count == 1 ? labels[0] : nil }
  }

  /// The labels of texts, in their order.
  public func classify(_ texts: [String]) throws -> [Prediction] {
    try classify(texts.map { Sample.LabelledText.text($0) })
  }

  /// The labels of texts, pairs of texts or conversations, in their order.
  ///
  /// - Throws: `DataError` for an empty text, `CancellationError` when ``shouldStop`` asked for the end.
  public func classify(_ texts: [Sample.LabelledText]) throws -> [Prediction] {
    let encoder = encoder
    let tokens = try texts.map { text in
      let tokens = try encoder.readTokens(of: text)
      guard tokens.count <= base.contextLength else {
        throw DataError(
          "a text has \(tokens.count) tokens, and the model has a context of \(base.contextLength)",
          remedy: "Shorten it, or set a maximum length to cut it at")
      }
      return tokens
    }
    // Texts of about the same length together; the predictions go back to their places.
    let order = tokens.indices.sorted { tokens[$0].count < tokens[$1].count }
    var predictions = [Prediction?](repeating: nil, count: tokens.count)
    for start in stride(from: 0, to: order.count, by: batchSize) {
      if shouldStop() { throw CancellationError() }
      let batch = order[start..<min(start + batchSize, order.count)]
      let scores = try withoutGradient {
        try base.logits(ModelInput(batch.map { tokens[$0] }, device: base.device)).to(.float32).rows()
      }
      for (index, row) in zip(batch, scores) { predictions[index] = prediction(row) }
    }
    return predictions.compactMap { $0 }
  }

  private func prediction(_ scores: [Float]) -> Prediction {
    let (values, right) = labels.reading(scores)
    return Prediction(
      logits: scores,
      values: OrderedDictionary(zip(labels.names, values), uniquingKeysWith: { first, _ in first }),
      labels: right.map { labels.names[$0] })
  }

  private var encoder: ExampleEncoder {
    ExampleEncoder(
      TextTokenization(
        tokenizer.tokenizer, chatTemplate: tokenizer.chatTemplate, identity: tokenizer.identity),
      options: encoding)
  }

  // MARK: Evaluation

  /// How the model does on labelled rows.
  public struct Evaluation: Sendable {
    /// The mean over texts, as training minimises it.
    public var loss: Double
    /// Accuracy and the like, by name.
    public var metrics: OrderedDictionary<String, Double>
    public var examples: Int
    public var tokens: Int
  }

  /// Loss and metrics on labelled rows.
  ///
  /// - Parameter format: the columns.
  /// - Throws: `DataError`, also for a label that the model does not know; `CancellationError` when ``shouldStop`` asked for
  ///   the end.
  public func evaluate(
    on files: [DataFile], format: RowFormatOptions = .init(), limit: Int? = nil
  ) async throws -> Evaluation {
    var format = format
    let labels = try LabelSet(
      of: files, for: base.labels, column: format.labelColumn, limit: limit)
    (format.labels, format.format) = (labels, nil)
    let (examples, report) = try await DatasetEncoder(encoder, rowFormat: format).examples(
      of: files, limit: limit)
    let result = try evaluation(
      of: model, on: examples, objective: SequenceClassification(.init(labels.kind), labels: labels.names),
      batchSize: batchSize, shouldStop: shouldStop)
    return Evaluation(
      loss: result.loss, metrics: result.metrics, examples: report.examples, tokens: report.tokens)
  }
}
