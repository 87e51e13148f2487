import JSON

/// TRL's form: `prompt` and `completion`, either both text or both lists of messages.
///
/// Only the completion is supervised, also where the prompt holds earlier turns of the assistant.
public struct PromptCompletionFormat: RowFormat {
  public static let name = "prompt-completion"
  public static let columns = "prompt, completion, optionally tools"

  public static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool {
    columns.isSuperset(of: ["prompt", "completion"])
  }

  private let options: RowFormatOptions

  public init(options: RowFormatOptions) { self.options = options }

  public func sample(from row: Row) throws -> Sample {
    guard case .array? = row["prompt"] else {
      return .completion(
        prompt: try row.requiredText("prompt"), completion: try row.requiredText("completion"))
    }
    var prompt = try MessagesFormat.messages(in: "prompt", of: row)
    let completion = try MessagesFormat.messages(in: "completion", of: row)
    let turns = completion.count { $0["role"] == "assistant" }
    guard turns > 0 else {
      throw DataError(
        "`completion` has no turn of the assistant", at: row.location,
        remedy: "A completion is what the assistant says")
    }
    if let systemPrompt = try options.systemPrompt(for: row), prompt.first?["role"] != "system" {
      prompt.insert(Sample.Conversation.message("system", systemPrompt), at: 0)
    }
    return .conversation(
      .init(messages: prompt + completion, tools: try options.tools(of: row), supervisedTurns: turns))
  }
}
