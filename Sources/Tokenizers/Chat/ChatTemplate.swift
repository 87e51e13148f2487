import JSON
import Jinja
import OrderedCollections

/// Turns conversations into the text that a model was trained on, with the Jinja template it ships.
///
/// Equal to transformers' `apply_chat_template(tokenize=False)`: the same variables, the same special tokens,
/// the same aliases of `reasoning_content`, the same choice among several templates.
public struct ChatTemplate: Sendable {
  /// The template without tools, and the one for tools where the model ships a second.
  public let template: Template
  public let toolTemplate: Template?
  /// `bos_token`, `eos_token` …: variables of the template.
  public var specialTokens: OrderedDictionary<String, String>
  /// Limits, and the clock of `strftime_now`.
  public var options: RenderingOptions

  /// A template from its source.
  ///
  /// - Throws: `TemplateError` with the line of what is wrong.
  public init(
    _ source: String, toolSource: String? = nil, specialTokens: OrderedDictionary<String, String> = [:],
    options: RenderingOptions = .init()
  ) throws(TemplateError) {
    template = try Template(source)
    if let toolSource { toolTemplate = try Template(toolSource) } else { toolTemplate = nil }
    self.specialTokens = specialTokens
    self.options = options
  }

  /// The template of a model from its files.
  ///
  /// - Parameters:
  ///   - tokenizerConfig: `tokenizer_config.json`, whose `chat_template` is a text or a list of
  ///     `{"name": …, "template": …}`, and whose special tokens become variables.
  ///   - file: The text of `chat_template.jinja`, where there is one: it goes before the configuration.
  ///   - name: Which of several templates; `nil` takes `default`, and `tool_use` when there are tools.
  /// - Throws: ``ChatTemplateError`` when the model has no such template, `TemplateError` when it has an error.
  public init(
    tokenizerConfig: JSONValue, file: String? = nil, name: String? = nil, options: RenderingOptions = .init()
  ) throws {
    var sources: OrderedDictionary<String, String> = [:]
    switch tokenizerConfig["chat_template"] {
    case .string(let source): sources["default"] = source
    case .array(let entries):
      for entry in entries {
        guard let name = entry["name"]?.stringValue, let source = entry["template"]?.stringValue else {
          throw ChatTemplateError(
            "an entry of `chat_template` in tokenizer_config.json needs the strings \"name\" and \"template\""
          )
        }
        sources[name] = source
      }
    case nil, .null: break
    case .some(let other):
      throw ChatTemplateError(
        "`chat_template` in tokenizer_config.json is a string or a list, not \(other.kind)")
    }
    if let file { sources["default"] = file }

    var specialTokens: OrderedDictionary<String, String> = [:]
    for key in ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"] {
      // A token is its text, or an object with the text as `content`.
      let token = tokenizerConfig[key]
      specialTokens[key] = token?.stringValue ?? token?["content"]?.stringValue
    }
    for (key, token) in tokenizerConfig["extra_special_tokens"]?.objectValue ?? [:] {
      specialTokens[key] = token.stringValue ?? token["content"]?.stringValue
    }

    let wanted = name ?? "default"
    guard let source = sources[wanted] else {
      throw ChatTemplateError(
        sources.isEmpty
          ? "the model has no chat template; give one, for instance a chat_template.jinja beside its tokenizer"
          : "the model has no chat template \"\(wanted)\"; it has "
            + sources.keys.map { "\"\($0)\"" }.joined(separator: ", "))
    }
    try self.init(
      source, toolSource: name == nil ? sources["tool_use"] : nil, specialTokens: specialTokens,
      options: options)
  }

  /// The text of a conversation.
  ///
  /// - Parameters:
  ///   - tools: JSON schemas of the functions that the model may call.
  ///   - documents: Objects with `title` and `text`, for templates that ground answers in them.
  ///   - addGenerationPrompt: End with what begins an answer.
  ///   - continueFinalMessage: Leave the last message open, so that the model goes on with it.
  ///   - variables: More variables of the template, such as `enable_thinking`.
  /// - Throws: `TemplateError` when the template refuses the conversation or fails, ``ChatTemplateError`` when
  ///   the arguments contradict each other.
  public func render(
    messages: [Message], tools: [JSONValue]? = nil, documents: [JSONValue]? = nil,
    addGenerationPrompt: Bool = false, continueFinalMessage: Bool = false,
    variables: OrderedDictionary<String, JSONValue> = [:]
  ) throws -> String {
    let template = template(forTools: tools)
    func render(_ messages: [JSONValue]) throws -> String {
      try template.render(
        context(messages, tools, documents, addGenerationPrompt, variables), options: options)
    }
    guard continueFinalMessage else { return try render(messages.map(Self.aliased)) }
    guard !addGenerationPrompt else {
      throw ChatTemplateError(
        "addGenerationPrompt begins a new message and continueFinalMessage continues the last one; choose one"
      )
    }
    return try FinalMessage.open(messages.map(Self.aliased), template: template, render: render)
  }

  /// The template for a conversation with or without tools.
  func template(forTools tools: [JSONValue]?) -> Template {
    tools == nil ? template : toolTemplate ?? template
  }

  func context(
    _ messages: [JSONValue], _ tools: [JSONValue]?, _ documents: [JSONValue]?, _ addGenerationPrompt: Bool,
    _ variables: OrderedDictionary<String, JSONValue>
  ) -> OrderedDictionary<String, JSONValue> {
    var context: OrderedDictionary<String, JSONValue> = [:]
    for (key, token) in specialTokens { context[key] = .string(token) }
    for (key, value) in variables { context[key] = value }
    context["messages"] = .array(messages)
    context["tools"] = tools.map(JSONValue.array) ?? .null
    context["documents"] = documents.map(JSONValue.array) ?? .null
    context["add_generation_prompt"] = .bool(addGenerationPrompt)
    return context
  }

  /// The message with its reasoning under the names that templates read: `reasoning_content`, and `thinking`
  /// for those of gpt-oss.
  static func aliased(_ message: Message) -> JSONValue {
    let reasoning = ["reasoning_content", "thinking", "reasoning"].lazy
      .compactMap { message.fields[$0] }.first { !$0.isNull }
    guard let reasoning else { return message.json }
    var fields: OrderedDictionary<String, JSONValue> = ["thinking": reasoning]
    for (key, value) in message.fields { fields[key] = value }
    fields["reasoning_content"] = reasoning
    return .object(fields)
  }
}

/// Leaves the last message of a conversation open.
private enum FinalMessage {
  /// Stands behind the last message's text to find where it ends; no text and no template contains it.
  private static let tag = "CONTINUE_FINAL_MESSAGE_TAG "

  static func open(
    _ messages: [JSONValue], template: Template, render: ([JSONValue]) throws -> String
  ) throws -> String {
    guard var last = messages.last else {
      throw ChatTemplateError("continueFinalMessage needs a message to continue, and there is none")
    }
    guard template.source.contains("content") else {
      throw ChatTemplateError("the template does not read \"content\", so that there is nothing to continue")
    }
    let text: String
    switch last["content"] {
    case .string(let content):
      text = content
      last["content"] = .string(content + tag)
    case .array(var parts):
      guard let index = parts.lastIndex(where: { $0["text"]?.stringValue != nil }) else {
        throw ChatTemplateError("continueFinalMessage found no text in the last message")
      }
      text = parts[index]["text"]?.stringValue ?? ""
      parts[index]["text"] = .string(text + tag)
      last["content"] = .array(parts)
    default: throw ChatTemplateError("continueFinalMessage: the last message has no \"content\" to continue")
    }
    let rendered = Array(try render(messages.dropLast() + [last]).utf8)
    let marker = Array(tag.utf8)
    let trimmed = marker.dropLast()
    let place = stride(from: rendered.count - trimmed.count, through: 0, by: -1).first {
      rendered[$0..<($0 + trimmed.count)].elementsEqual(trimmed)
    }
    let body = trim(text)
    guard let place, String(decoding: rendered, as: UTF8.self).contains(body) || body.isEmpty else {
      throw ChatTemplateError(
        "continueFinalMessage: the last message is not in the text, because the template removes part of it")
    }
    let before = String(decoding: rendered[..<place], as: UTF8.self)
    // A template that trims messages has taken the tag's space, and would have taken the text's too.
    let keepsSpace = place + marker.count <= rendered.count && rendered[place + trimmed.count] == marker.last
    return keepsSpace ? before : trim(before, left: false)
  }

  private static func trim(_ text: String, left: Bool = true) -> String {
    var scalars = text.unicodeScalars[...]
    while let last = scalars.last, last.properties.isWhitespace { scalars.removeLast() }
    if left { while let first = scalars.first, first.properties.isWhitespace { scalars.removeFirst() } }
    return String(Substring(scalars))
  }
}
