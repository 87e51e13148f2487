import JSON

/// ShareGPT's form: `conversations`, a list of `{"from": "human", "value": …}`, and optionally `system` and
/// `tools`. Lists of `{"role": …, "content": …}` under this name are read too.
public struct ConversationsFormat: RowFormat {
  public static let name = "conversations"
  public static let columns = "conversations, optionally system, tools"

  public static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool {
    columns.contains("conversations")
  }

  private let options: RowFormatOptions

  public init(options: RowFormatOptions) { self.options = options }

  public func sample(from row: Row) throws -> Sample {
    var row = row
    if case .array(let turns)? = row["conversations"], turns.first?["from"] != nil {
      let messages = try turns.enumerated().map { try message($1, index: $0, of: row) }
      row.columns.append("messages")
      row.values.append(.array(messages))
    } else if let value = row["conversations"] {
      row.columns.append("messages")
      row.values.append(value)
    }
    var options = options
    options.systemPrompt = try options.systemPrompt(for: row, column: "system")
    (options.systemColumn, options.messagesColumn) = (nil, nil)
    return try MessagesFormat(options: options).sample(from: row)
  }

  private func message(_ turn: JSONValue, index: Int, of row: Row) throws -> JSONValue {
    guard let from = turn["from"]?.stringValue, let value = turn["value"]?.stringValue else {
      throw DataError(
        "`conversations[\(index)]` has no `from` or no `value`", at: row.location,
        remedy: "Each turn is {\"from\": \"human\" or \"gpt\", \"value\": \"…\"}")
    }
    guard let role = Self.roles[from.lowercased()] else {
      throw DataError(
        "`conversations[\(index)]` is from `\(from)`", at: row.location,
        remedy: "Turns are from \(Row.list(Self.roles.keys.sorted()))")
    }
    return Sample.Conversation.message(role, value)
  }

  private static let roles = [
    "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "bing": "assistant", "bard": "assistant", "model": "assistant", "function_call": "assistant",
    "system": "system", "tool": "tool", "observation": "tool", "function": "tool",
    "function_response": "tool",
  ]
}
