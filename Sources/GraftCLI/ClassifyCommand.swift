import ArgumentParser
import Datasets
import Foundation
import Graft
import JSON
import OrderedCollections

/// `graft classify`: labels of texts.
struct ClassifyCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "classify",
    abstract: "Give texts labels, or numbers.",
    discussion: """
      The model is a classifier, or a base with an adapter that was trained with `task_type: SEQ_CLS`. A file is a text file \
      with a text a line, or CSV, TSV, JSON or JSONL with a column `text` (and `text_pair`) or `messages`. Each text's label is \
      printed with its probability; --json prints an object a line with those of all labels.

      EXAMPLE
        graft classify SmolLM2-135M-Instruct "switch the fan off" --adapter runs/intents
        graft classify runs/intents --file requests.txt --json > labels.jsonl
      """)

  @OptionGroup var model: ModelOptions

  @Argument(help: "The text.")
  var argument: String?

  @Option(name: .customLong("text"), help: ArgumentHelp("A text. May be repeated.", valueName: "text"))
  var texts: [String] = []

  @Option(help: ArgumentHelp("Label every text of this file.", valueName: "file"))
  var file: String?

  @Option(help: "Column of the text (default: text).")
  var textColumn: String?

  @Option(help: "Column of a second text beside it (default: text_pair where there is one).")
  var textPairColumn: String?

  @Option(help: ArgumentHelp("Which adapter is active (default: the first).", valueName: "name"))
  var use: String?

  @Option(
    help: "Tokens to cut a text at (default: none, and longer ones than the model's context are refused).")
  var maxLength: Int?

  @Option(help: "Texts of one forward pass.")
  var batchSize = 8

  @Flag(help: "Print a JSON object a line.")
  var json = false

  func validate() throws {
    guard [argument != nil, !texts.isEmpty, file != nil].count(where: { $0 }) == 1 else {
      throw ValidationError("Give the texts as an argument, with --text or with --file: one of the three.")
    }
    guard batchSize >= 1 else {
      throw ValidationError("--batch-size \(batchSize) is too few; write 1 or more.")
    }
    if let maxLength, maxLength < 1 {
      throw ValidationError("--max-length \(maxLength) is too few; write 1 or more.")
    }
  }

  func run() async throws {
    Interruption.install()
    // Before the model: a mistake here should not cost its loading.
    let texts = try read()
    let loaded = try model.load(using: use)
    var classifier = try TextClassifier(loaded.model, tokenizer: loaded.tokenizer)
    classifier.batchSize = batchSize
    classifier.encoding.maxLength = maxLength
    classifier.shouldStop = { Interruption.isRequested }
    let predictions = try classifier.classify(texts)
    for (text, prediction) in zip(texts, predictions) {
      try Console.result(
        json
          ? report(text, prediction, classifier.labels).serialized()
          : line(text, prediction, classifier.labels))
    }
  }

  // MARK: Texts

  private func read() throws -> [Sample.LabelledText] {
    guard let file else { return (argument.map { [$0] } ?? texts).map { .text($0) } }
    let format = LabelledFormat(
      options: RowFormatOptions(textColumn: textColumn, textPairColumn: textPairColumn))
    let reader = try DataFile(file).reader()
    var rows: [Sample.LabelledText] = []
    while let row = try reader.next() { rows.append(try format.text(of: row)) }
    guard !rows.isEmpty else {
      throw CommandError("\(file) holds no texts", remedy: "check that it is the right file")
    }
    return rows
  }

  // MARK: Output

  private func report(
    _ text: Sample.LabelledText, _ prediction: TextClassifier.Prediction, _ labels: ClassificationLabels
  ) -> JSONValue {
    var members: OrderedDictionary<String, JSONValue> = [:]
    switch text {
    case .text(let text): members["text"] = .string(text)
    case .pair(let text, let pair): (members["text"], members["text_pair"]) = (.string(text), .string(pair))
    case .conversation(let conversation): members["messages"] = .array(conversation.messages)
    }
    let values = JSONValue.object(prediction.values.mapValues(JSONValue.number))
    switch labels.problemType {
    case .regression: members["values"] = values
    case .multiLabel:
      members["labels"] = .array(prediction.labels.map(JSONValue.string))
      members["probabilities"] = values
    case .singleLabel, nil:
      members["label"] = prediction.label.map(JSONValue.string) ?? .null
      members["probabilities"] = values
    }
    return .object(members)
  }

  /// What the text was given, and its beginning.
  private func line(
    _ text: Sample.LabelledText, _ prediction: TextClassifier.Prediction, _ labels: ClassificationLabels
  ) -> String {
    func number(_ value: Double?) -> String { String(format: "%.4f", value ?? .nan) }
    let given =
      labels.problemType == .regression
      ? prediction.values.values.map(number).joined(separator: " ")
      : prediction.labels.map { "\($0) \(number(prediction.values[$0]))" }.joined(separator: ", ")
    let shown: String =
      switch text {
      case .text(let text): text
      case .pair(let text, let pair): "\(text) | \(pair)"
      case .conversation(let conversation): conversation.messages.last?["content"]?.stringValue ?? ""
      }
    return "\(given)\t\(shown.split(whereSeparator: \.isNewline).joined(separator: " "))"
  }
}
