/// Two columns, what is asked and what is answered: `question` and `answer`, or any two that the user names.
///
/// Models without a chat template get the question, a line break, and the answer.
public struct QuestionAnswerFormat: RowFormat {
  public static let name = "question-answer"
  public static let columns = "question, answer, or the named prompt and response columns"

  public static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool {
    let format = QuestionAnswerFormat(options: options)
    return columns.isSuperset(of: [format.promptColumn, format.responseColumn])
  }

  private let promptColumn: String
  private let responseColumn: String
  private let options: RowFormatOptions

  public init(options: RowFormatOptions) {
    promptColumn = options.promptColumn ?? "question"
    responseColumn = options.responseColumn ?? "answer"
    self.options = options
  }

  public func sample(from row: Row) throws -> Sample {
    let question = try row.requiredText(promptColumn)
    let answer = try row.requiredText(responseColumn)
    var messages = [
      Sample.Conversation.message("user", question), Sample.Conversation.message("assistant", answer),
    ]
    let systemPrompt = try options.systemPrompt(for: row)
    if let systemPrompt { messages.insert(Sample.Conversation.message("system", systemPrompt), at: 0) }
    let prompt = [systemPrompt, question].compactMap { $0 }.joined(separator: "\n") + "\n"
    return .conversation(.init(messages: messages, plain: .init(prompt: prompt, completion: answer)))
  }
}
