import JSON

/// A text with a label, in the columns `text` and `label` or those that the user names; beside the text may stand a second one
/// (`text_pair`), and in its place a conversation (`messages`).
///
/// Chosen by ``RowFormatOptions/labels``, never by the columns: a text has no label unless somebody wants one learnt.
public struct LabelledFormat: RowFormat {
  public static let name = "labelled"
  public static let columns = "text or messages, label, optionally text_pair"

  public static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool { options.labels != nil }

  private let options: RowFormatOptions
  private let ids: [String: Int]

  public init(options: RowFormatOptions) {
    self.options = options
    ids = options.labels?.ids ?? [:]
  }

  public func sample(from row: Row) throws -> Sample {
    guard let labels = options.labels else {
      throw DataError(
        "the row format `\(Self.name)` is for tasks with labels", at: row.location,
        remedy: "Set task_type: SEQ_CLS, or choose another row format")
    }
    let target = try labels.target(of: row, column: options.labelColumn ?? Self.labelColumn, ids: ids)
    return .labelled(try text(of: row), target: target)
  }

  /// What is to be labelled, for rows that need no label of their own.
  public func text(of row: Row) throws -> Sample.LabelledText {
    let messages = options.messagesColumn ?? "messages"
    if options.textColumn == nil, row[messages] != nil {
      var turns = try MessagesFormat.messages(in: messages, of: row)
      if let systemPrompt = try options.systemPrompt(for: row), turns.first?["role"] != "system" {
        turns.insert(Sample.Conversation.message("system", systemPrompt), at: 0)
      }
      return .conversation(.init(messages: turns, tools: try options.tools(of: row)))
    }
    let text = try row.requiredText(options.textColumn ?? "text")
    if let pair = options.textPairColumn { return .pair(text, try row.requiredText(pair)) }
    return try row.text("text_pair").map { .pair(text, $0) } ?? .text(text)
  }

  /// The column of labels when the user names none.
  public static let labelColumn = "label"
}
