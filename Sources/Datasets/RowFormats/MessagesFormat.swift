import JSON

/// OpenAI's form: `messages`, a list of `{"role": …, "content": …}`, and optionally `tools`.
public struct MessagesFormat: RowFormat {
  public static let name = "messages"
  public static let columns = "messages, optionally tools"

  public static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool {
    columns.contains(options.messagesColumn ?? "messages")
  }

  private let options: RowFormatOptions

  public init(options: RowFormatOptions) { self.options = options }

  public func sample(from row: Row) throws -> Sample {
    let column = options.messagesColumn ?? "messages"
    var messages = try Self.messages(in: column, of: row)
    guard messages.contains(where: { $0["role"] == "assistant" }) else {
      throw DataError(
        "`\(column)` has no turn of the assistant", at: row.location,
        remedy: "A conversation to learn from has at least one message with the role assistant")
    }
    if let systemPrompt = try options.systemPrompt(for: row), messages.first?["role"] != "system" {
      messages.insert(Sample.Conversation.message("system", systemPrompt), at: 0)
    }
    return .conversation(.init(messages: messages, tools: try options.tools(of: row)))
  }

  /// The messages in a column, checked: chat templates print what is missing as nothing.
  static func messages(in column: String, of row: Row) throws -> [JSONValue] {
    let value = try parsed(column, of: row)
    guard case .array(let messages)? = value, !messages.isEmpty else {
      throw DataError(
        "`\(column)` is \(value?.kind ?? "missing"), where a list of messages is needed", at: row.location,
        remedy:
          "Write [{\"role\": \"user\", \"content\": \"…\"}, {\"role\": \"assistant\", \"content\": \"…\"}]")
    }
    for (index, message) in messages.enumerated() {
      let place = "`\(column)[\(index)]`"
      guard case .object(let members) = message, case .string(let role)? = members["role"] else {
        throw DataError(
          "\(place) has no `role`", at: row.location,
          remedy: "Each message is an object with `role` and `content`")
      }
      guard roles.contains(role) else {
        throw DataError(
          "\(place) has the role `\(role)`", at: row.location, remedy: "Roles are \(Row.list(roles))")
      }
      switch members["content"] {
      case .string, .array: break
      case nil, .null:
        // An assistant that calls functions need not say anything.
        if role == "assistant", members["tool_calls"]?.arrayValue?.isEmpty == false { break }
        throw DataError(
          "\(place) has no `content`", at: row.location,
          remedy: "Give it text; only an assistant's message with `tool_calls` can do without")
      case let content?:
        throw DataError(
          "the `content` of \(place) is \(content.kind)", at: row.location,
          remedy: "Content is text or a list of parts")
      }
    }
    return messages
  }

  static func tools(in column: String, of row: Row) throws -> [JSONValue]? {
    let value = try parsed(column, of: row)
    switch value {
    case nil, .null: return nil
    case .array(let tools): return tools.isEmpty ? nil : tools
    case let value?:
      throw DataError(
        "`\(column)` is \(value.kind), where a list is needed", at: row.location,
        remedy: "Write the function descriptions as a JSON list")
    }
  }

  /// A column's value; text in it (a table has nothing else) is read as JSON.
  private static func parsed(_ column: String, of row: Row) throws -> JSONValue? {
    guard case .string(let text)? = row[column] else { return row[column] }
    if text.isEmpty { return nil }
    do {
      return try JSONValue(parsing: text)
    } catch {
      throw DataError(
        "`\(column)` is text that is no JSON: \(error.description)", at: row.location,
        remedy: "Write a JSON list there")
    }
  }

  private static let roles = ["system", "developer", "user", "assistant", "tool", "ipython", "function"]
}
