import Datasets
import JSON
import Testing

@Suite struct RowFormatTests {
  static func message(_ role: String, _ content: String) -> JSONValue {
    ["role": .string(role), "content": .string(content)]
  }

  static let turns: JSONValue = [message("user", "hi"), message("assistant", "hello")]
  static let shareGPT: JSONValue = [["from": "human", "value": "hi"], ["from": "gpt", "value": "hello"]]

  static let rows: [(format: String, row: Row)] = [
    ("messages", Row(["messages": turns])),
    ("messages", Row(["messages": .string(turns.serialized()), "id": 3])),
    ("conversations", Row(["conversations": shareGPT])),
    ("conversations", Row(["conversations": turns])),
    ("instruction", Row(["instruction": "hi", "input": "", "output": "hello"])),
    ("question-answer", Row(["question": "hi", "answer": "hello", "department": "x"])),
    (
      "prompt-completion",
      Row(["prompt": [message("user", "hi")], "completion": [message("assistant", "hello")]])
    ),
  ]

  @Test("each format is found by its columns and says the same conversation", arguments: rows)
  func conversation(format name: String, row: Row) throws {
    let format = try RowFormats.format(for: row)
    #expect(type(of: format).name == name)
    guard case .conversation(let conversation) = try format.sample(from: row) else {
      Issue.record("\(name) gave no conversation")
      return
    }
    #expect(JSONValue.array(conversation.messages) == Self.turns)
    #expect(conversation.tools == nil)
  }

  @Test("the system prompt goes first, unless the row has its own", arguments: rows)
  func systemPrompt(format name: String, row: Row) throws {
    let format = try RowFormats.format(for: row, options: .init(systemPrompt: "be brief"))
    guard case .conversation(let conversation) = try format.sample(from: row) else { return }
    #expect(conversation.messages.first == Self.message("system", "be brief"))
    #expect(conversation.messages.count == 3)
    let own = Row(["messages": [Self.message("system", "own"), Self.turns[0]!, Self.turns[1]!]])
    guard
      case .conversation(let kept) = try RowFormats.format(for: own, options: .init(systemPrompt: "x"))
        .sample(from: own)
    else { return }
    #expect(kept.messages.first == Self.message("system", "own"))
    #expect(kept.messages.count == 3)
  }

  @Test("text forms stay text")
  func text() throws {
    let completion = Row(["prompt": "2+2=", "completion": "4"])
    #expect(
      try RowFormats.format(for: completion).sample(from: completion)
        == .completion(prompt: "2+2=", completion: "4"))
    let text = Row(["text": "once upon a time"])
    #expect(try RowFormats.format(for: text).sample(from: text) == .text("once upon a time"))
    let other = Row(["body": "x", "text": "y"])
    #expect(
      try RowFormats.format(for: other, options: .init(textColumn: "body")).sample(from: other) == .text("x"))
  }

  @Test("columns that the user names decide")
  func namedColumns() throws {
    let row = Row(["ask": "hi", "reply": "hello", "text": "unused"])
    let format = try RowFormats.format(for: row, options: .init(promptColumn: "ask", responseColumn: "reply"))
    guard case .conversation(let conversation) = try format.sample(from: row) else { return }
    #expect(JSONValue.array(conversation.messages) == Self.turns)
    let error = dataError {
      _ = try RowFormats.format(for: row, options: .init(promptColumn: "asked", responseColumn: "reply"))
    }
    #expect(error?.message == "the columns `ask`, `reply`, `text` are those of no row format")
  }

  @Test("a row's own system message goes before the one for all")
  func systemColumn() throws {
    for (row, options) in [
      (Row(["question": "hi", "answer": "hello", "role": "own"]), RowFormatOptions(systemColumn: "role")),
      (
        Row(["turns": Self.turns, "role": "own"]),
        RowFormatOptions(messagesColumn: "turns", systemColumn: "role")
      ),
      (Row(["conversations": Self.shareGPT, "system": "own"]), RowFormatOptions()),
      (Row(["instruction": "hi", "output": "hello", "system": "own"]), RowFormatOptions()),
    ] {
      var options = options
      options.systemPrompt = "for all"
      guard
        case .conversation(let conversation) = try RowFormats.format(for: row, options: options).sample(
          from: row)
      else { continue }
      #expect(conversation.messages == [Self.message("system", "own"), Self.turns[0], Self.turns[1]])
    }
  }

  @Test("tools and calls of functions are kept")
  func tools() throws {
    let call: JSONValue = ["role": "assistant", "content": nil, "tool_calls": [["type": "function"]]]
    let row = Row(["messages": [Self.message("user", "hi"), call], "tools": [["name": "f"]]])
    guard case .conversation(let conversation) = try RowFormats.format(for: row).sample(from: row) else {
      return
    }
    #expect(conversation.tools == [["name": "f"]])
    #expect(conversation.messages[1] == call)
  }

  @Test(
    "rows that are wrong are errors with the row's place",
    arguments: [
      (Row(["messages": [message("user", "hi")]]), "has no turn of the assistant"),
      (Row(["messages": []]), "where a list of messages is needed"),
      (Row(["messages": [["content": "x"]]]), "`messages[0]` has no `role`"),
      (Row(["messages": [message("bot", "x")]]), "has the role `bot`"),
      (Row(["messages": [["role": "assistant", "content": nil]]]), "has no `content`"),
      (Row(["messages": "[oops"]), "no JSON"),
      (Row(["conversations": [["from": "alien", "value": "x"]]]), "is from `alien`"),
      (Row(["question": "x", "answer": nil]), "`answer` is null"),
      (Row(["prompt": "x", "completion": [1]]), "`completion` is an array"),
    ])
  func errors(row: Row, message: String) throws {
    let error = dataError { _ = try RowFormats.format(for: row).sample(from: row) }
    #expect(error?.message.contains(message) == true, "\(String(describing: error))")
    #expect(error?.location?.row == 1)
    #expect(error?.remedy != nil)
  }

  @Test("an unknown format is an error that lists all")
  func unknown() {
    let error = dataError {
      _ = try RowFormats.format(for: Row(["text": "x"]), options: .init(format: "alpaca2"))
    }
    for type in RowFormats.all { #expect(error?.remedy?.contains(type.name) == true) }
  }
}
