import ArgumentParser
import Datasets
import Files
import Formats
import Foundation
import Generation
import Graft
import JSON
import OrderedCollections
import Training

/// `graft evaluate`: loss and generation metrics on a data set.
struct EvaluateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "evaluate",
    abstract: "Measure loss, perplexity and the quality of answers on a data file.",
    discussion: """
      With --generate, every prompt is answered and the answers are compared with the file's: exact match, ROUGE and \
      BLEU, by character where the text is Chinese. Of a classifier, rows have a column `label`, and what is measured is \
      accuracy and macro F1 or, for numbers, squared error and correlations.

      EXAMPLE
        graft evaluate Qwen2.5-0.5B-Instruct val.json --adapter runs/medical --generate --max-samples 100
      """)

  @OptionGroup var model: ModelOptions

  @Argument(help: "The data file.")
  var dataFile: String

  @OptionGroup var data: DataOptions

  @Flag(name: .customLong("generate"), help: "Answer the prompts too, and compare the answers.")
  var generates = false

  @OptionGroup var generation: GenerationOptions

  @Option(
    help: ArgumentHelp("Write every prompt, answer and reference to this JSONL file.", valueName: "file"))
  var predictions: String?

  @Option(help: "Sequences of one forward pass.")
  var batchSize = 8

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard batchSize >= 1 else {
      throw ValidationError("--batch-size \(batchSize) is too few; write 1 or more.")
    }
    guard predictions == nil || generates else { throw ValidationError("--predictions needs --generate.") }
  }

  func run() async throws {
    Interruption.install()
    let file = try data.file(dataFile)
    let loaded = try model.load()
    guard loaded.model.base.task == .causalLM else { return try await evaluateLabels(of: loaded, file) }
    var evaluation = LanguageModelEvaluation(loaded.model, tokenizer: loaded.tokenizer)
    evaluation.batchSize = batchSize
    evaluation.shouldStop = { Interruption.isRequested }

    let loss = try await evaluation.loss(
      on: [file], format: data.rowFormatOptions, encoding: EncodingOptions(maxLength: data.maxLength),
      limit: data.maxSamples)
    guard !Interruption.isRequested else { throw Interrupted(message: "Stopped; nothing was written.") }
    var result = JSONValue.encodeObject(loss)

    if generates {
      let answers = try evaluation.answers(
        to: file, format: data.rowFormatOptions, generation: generation.config(over: loaded.generation),
        limit: data.maxSamples
      ) { done, total in
        Console.status.draw { _ in "answered \(done) of \(total)" }
      }
      Console.status.end()
      guard !Interruption.isRequested else { throw Interrupted(message: "Stopped; nothing was written.") }
      for (name, score) in LanguageModelEvaluation.scores(answers) { result[name] = .number(score) }
      result["answers"] = .integer(answers.count)
      if let predictions { try write(answers, to: predictions) }
    }
    try print(result)
  }

  private func evaluateLabels(of loaded: LoadedModel, _ file: DataFile) async throws {
    guard !generates else {
      throw ValidationError("--generate has no meaning for a classifier, which writes no text.")
    }
    var classifier = try TextClassifier(loaded.model, tokenizer: loaded.tokenizer)
    classifier.batchSize = batchSize
    classifier.encoding.maxLength = data.maxLength
    classifier.shouldStop = { Interruption.isRequested }
    let evaluation = try await classifier.evaluate(
      on: [file], format: data.rowFormatOptions, limit: data.maxSamples)
    var result: OrderedDictionary<String, JSONValue> = ["loss": .number(evaluation.loss)]
    for (name, value) in evaluation.metrics { result[name] = value.isFinite ? .number(value) : .null }
    result["examples"] = .integer(evaluation.examples)
    result["tokens"] = .integer(evaluation.tokens)
    try print(result)
  }

  private func write(_ answers: [LanguageModelEvaluation.Answer], to path: String) throws {
    let lines = try answers.map { try JSONValue.encode($0).serialized() + "\n" }
    try AtomicFile.write(Data(lines.joined().utf8), to: URL(fileURLWithPath: path))
  }

  private func print(_ result: OrderedDictionary<String, JSONValue>) throws {
    guard !json else { return try Console.result(JSONValue.object(result).serialized(indent: 2)) }
    for (name, value) in result {
      let text = value.intValue.map(String.init) ?? String(format: "%.4f", value.doubleValue ?? .nan)
      try Console.result("\(name.padding(toLength: 24, withPad: " ", startingAt: 0))\(text)")
    }
  }
}

extension JSONValue {
  /// The members of a value that encodes as an object.
  fileprivate static func encodeObject(_ value: some Encodable) -> OrderedDictionary<String, JSONValue> {
    (try? JSONValue.encode(value))?.withSnakeCaseKeys.objectValue ?? [:]
  }
}
