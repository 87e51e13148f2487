import Adapters
import Datasets
import Foundation
import Generation
import JSON
import Models
import OrderedCollections
import Tokenizers

/// Measures a model, with the adapters that are active on it, on a data file: loss, and how its answers compare.
public struct LanguageModelEvaluation {
  public let model: PEFTModel
  public let tokenizer: ChatTokenizer
  /// Sequences of one forward pass.
  public var batchSize = 8
  /// Asked between batches; true ends the evaluation with what there is.
  public var shouldStop: () -> Bool = { false }

  public init(_ model: PEFTModel, tokenizer: ChatTokenizer) {
    self.model = model
    self.tokenizer = tokenizer
  }

  /// The loss on a file.
  public struct Loss: Sendable, Codable {
    /// Mean negative log-likelihood of the supervised tokens, in nats.
    public var loss: Double
    /// exp(loss).
    public var perplexity: Double
    public var supervisedTokens: Int
    public var tokens: Int
    public var examples: Int
  }

  /// The mean loss over the supervised tokens of `files`.
  public func loss(
    on files: [DataFile], format: RowFormatOptions = .init(), encoding: EncodingOptions = .init(),
    limit: Int? = nil
  ) async throws -> Loss {
    let encoder = ExampleEncoder(
      TextTokenization(
        tokenizer.tokenizer, chatTemplate: tokenizer.chatTemplate, identity: tokenizer.identity),
      options: encoding)
    let (examples, report) = try await DatasetEncoder(encoder, rowFormat: format).examples(
      of: files, limit: limit)
    return try loss(examples, report)
  }

  private func loss(_ examples: ExampleList, _ report: EncodingReport) throws -> Loss {
    let (loss, supervised) = try evaluationLoss(model, examples, batchSize: batchSize, shouldStop: shouldStop)
    return Loss(
      loss: loss, perplexity: exp(loss), supervisedTokens: supervised, tokens: report.tokens,
      examples: report.examples)
  }

  // MARK: Answers

  /// A prompt of the file, what the model answered and what the file answers.
  public struct Answer: Sendable, Codable {
    public var prompt: String
    public var prediction: String
    public var reference: String
  }

  /// Answers the prompts of `file`: the conversation up to its last answer, or the text to be completed.
  ///
  /// - Throws: `DataError` for a file whose rows have no answers.
  public func answers(
    to file: DataFile, format: RowFormatOptions = .init(), generation: GenerationConfig, limit: Int? = nil,
    progress: (_ done: Int, _ total: Int) -> Void = { _, _ in }
  ) throws -> [Answer] {
    let questions = try questions(in: file, format: format, limit: limit)
    let generator = try Generator(model.causalLanguageModel(), tokenizer: tokenizer)
    // Prompts of about the same length together; the answers go back to their places.
    let order = questions.indices.sorted { questions[$0].tokens.count < questions[$1].tokens.count }
    var answers = [Answer?](repeating: nil, count: questions.count)
    for start in stride(from: 0, to: order.count, by: batchSize) where !shouldStop() {
      let batch = order[start..<min(start + batchSize, order.count)]
      let outputs = try generator.generate(
        batch.map { questions[$0].tokens }, generation, isCancelled: shouldStop)
      for (index, output) in zip(batch, outputs) {
        answers[index] = Answer(
          prompt: questions[index].prompt, prediction: output.text, reference: questions[index].reference)
      }
      progress(min(start + batchSize, order.count), order.count)
    }
    return answers.compactMap { $0 }
  }

  private func questions(in file: DataFile, format: RowFormatOptions, limit: Int?) throws
    -> [(tokens: [Int32], prompt: String, reference: String)]
  {
    let reader = try file.reader()
    var rowFormat: (any RowFormat)?
    var questions: [(tokens: [Int32], prompt: String, reference: String)] = []
    while questions.count < limit ?? .max, let row = try reader.next() {
      let known = try rowFormat ?? RowFormats.format(for: row, options: format)
      rowFormat = known
      switch try known.sample(from: row) {
      case .conversation(let conversation):
        guard let last = conversation.messages.last, last["role"]?.stringValue == "assistant",
          let reference = last["content"]?.stringValue
        else {
          throw DataError(
            "the conversation does not end with an answer of the assistant", at: row.location,
            remedy: "Evaluate answers on rows that have one")
        }
        let messages = try conversation.messages.dropLast().map { try Message($0) }
        let prompt = messages.last?.content ?? ""
        if tokenizer.chatTemplate == nil, let plain = conversation.plain {
          questions.append((tokenizer.encode(plain.prompt), plain.prompt, plain.completion))
        } else {
          questions.append(
            (try tokenizer.applyChatTemplate(messages, tools: conversation.tools), prompt, reference))
        }
      case .completion(let prompt, let completion):
        questions.append((tokenizer.encode(prompt), prompt, completion))
      case .text, .labelled:
        throw DataError(
          "the row is plain text, to which there is no answer", at: row.location,
          remedy: "Leave out --generate, or use rows of prompt and answer")
      }
    }
    guard !questions.isEmpty else {
      throw DataError(
        "the file holds no rows", at: .init(file: file.path), remedy: "Check that it is the right one")
    }
    return questions
  }

  /// Exact match, ROUGE and BLEU of answers, from 0 to 100; by character where the references are Chinese.
  public static func scores(_ answers: [Answer]) -> OrderedDictionary<String, Double> {
    let references = answers.map(\.reference)
    let predictions = answers.map(\.prediction)
    var scores: OrderedDictionary<String, Double> = [:]
    for metric in TextMetrics.all(isChinese: TextMetrics.areChinese(references)) {
      scores[metric.name] = metric.score(predictions: predictions, references: references)
    }
    return scores
  }
}
