import JSON
import OrderedCollections

/// One turn of a conversation, as chat templates read it.
///
/// Apart from `role` and `content` a message has whatever fields its template knows: `tool_calls`, `name`,
/// `tool_call_id`, `reasoning_content`. They keep their order, because templates may print them.
public struct Message: Sendable, Hashable {
  /// Every field, `role` and `content` among them.
  public var fields: OrderedDictionary<String, JSONValue>

  public init(role: String, content: String) {
    fields = ["role": .string(role), "content": .string(content)]
  }

  /// A message from a row of a data set.
  ///
  /// - Throws: ``ChatTemplateError`` when `value` is no object, or its `role` is missing or no string.
  public init(_ value: JSONValue) throws(ChatTemplateError) {
    guard case .object(let fields) = value else {
      throw ChatTemplateError("a message is an object with \"role\" and \"content\", not \(value.kind)")
    }
    guard let role = fields["role"] else {
      throw ChatTemplateError(
        "a message has no \"role\"; its keys are \(fields.keys.map { "\"\($0)\"" }.joined(separator: ", "))")
    }
    guard case .string = role else {
      throw ChatTemplateError("a message's \"role\" is a string, not \(role.kind)")
    }
    self.fields = fields
  }

  public static func system(_ content: String) -> Message { Message(role: "system", content: content) }
  public static func user(_ content: String) -> Message { Message(role: "user", content: content) }
  public static func assistant(_ content: String) -> Message { Message(role: "assistant", content: content) }

  /// Who speaks: `system`, `user`, `assistant`, `tool`, or what the template knows besides.
  public var role: String {
    get { fields["role"]?.stringValue ?? "" }
    set { fields["role"] = .string(newValue) }
  }

  /// The text, when it is one; a list of parts (`[{"type": "text", …}]`) is in `fields`.
  public var content: String? {
    get { fields["content"]?.stringValue }
    set { fields["content"] = newValue.map(JSONValue.string) ?? .null }
  }

  /// The field of that name; `nil` when the message has none.
  public subscript(field: String) -> JSONValue? {
    get { fields[field] }
    set { fields[field] = newValue }
  }

  /// The message as an object.
  public var json: JSONValue { .object(fields) }
}
