import JSON

/// What a row says, whatever form it has: the input of ``ExampleEncoder``.
public enum Sample: Sendable, Hashable {
  case conversation(Conversation)
  /// Text to be completed; only the completion is supervised.
  case completion(prompt: String, completion: String)
  /// Text for language modelling; all of it is supervised.
  case text(String)
  /// What is to be given a label, and the label as numbers, see ``LabelSet``.
  case labelled(LabelledText, target: [Float])

  /// What has a label.
  public enum LabelledText: Sendable, Hashable {
    case text(String)
    /// Two texts that the label says something about together.
    case pair(String, String)
    case conversation(Conversation)
  }

  /// Messages that go through the model's chat template.
  public struct Conversation: Sendable, Hashable {
    /// Each an object with `role` and `content`, as OpenAI's interface and chat templates have them.
    public var messages: [JSONValue]
    /// Descriptions of the functions that the model may call.
    public var tools: [JSONValue]?
    /// How many of the assistant's turns are supervised, counted from the last; `nil` is all.
    public var supervisedTurns: Int?
    /// The same as text, for models without a chat template; `nil` where there is no usual way.
    public var plain: Plain?

    public struct Plain: Sendable, Hashable {
      public var prompt: String
      public var completion: String

      public init(prompt: String, completion: String) {
        self.prompt = prompt
        self.completion = completion
      }
    }

    public init(
      messages: [JSONValue], tools: [JSONValue]? = nil, supervisedTurns: Int? = nil, plain: Plain? = nil
    ) {
      self.messages = messages
      self.tools = tools
      self.supervisedTurns = supervisedTurns
      self.plain = plain
    }

    static func message(_ role: String, _ content: String) -> JSONValue {
      ["role": .string(role), "content": .string(content)]
    }
  }
}

/// What a user may say about a data file's columns.
public struct RowFormatOptions: Sendable, Codable, Hashable {
  /// The name of a ``RowFormat``; `nil` goes by the columns.
  public var format: String?
  /// The column that holds the user's side, for ``QuestionAnswerFormat``.
  public var promptColumn: String?
  /// The column that holds the answer, for ``QuestionAnswerFormat``.
  public var responseColumn: String?
  /// The column that holds the text, for ``TextFormat``.
  public var textColumn: String?
  /// The column that holds the messages, for ``MessagesFormat``.
  public var messagesColumn: String?
  /// The column that holds function descriptions; without it `tools`.
  public var toolsColumn: String?
  /// The column that holds a row's own system message; without it `system` where the format has that.
  public var systemColumn: String?
  /// A system message for conversations that bring none.
  public var systemPrompt: String?
  /// The column that holds the label, for ``LabelledFormat``.
  public var labelColumn: String?
  /// The column that holds a second text, for ``LabelledFormat``.
  public var textPairColumn: String?
  /// The labels that rows are to have; nil where they are to have none.
  public var labels: LabelSet?

  public init(
    format: String? = nil, promptColumn: String? = nil, responseColumn: String? = nil,
    textColumn: String? = nil, messagesColumn: String? = nil, toolsColumn: String? = nil,
    systemColumn: String? = nil, systemPrompt: String? = nil, labelColumn: String? = nil,
    textPairColumn: String? = nil, labels: LabelSet? = nil
  ) {
    self.format = format
    self.promptColumn = promptColumn
    self.responseColumn = responseColumn
    self.textColumn = textColumn
    self.messagesColumn = messagesColumn
    self.toolsColumn = toolsColumn
    self.systemColumn = systemColumn
    self.systemPrompt = systemPrompt
    self.labelColumn = labelColumn
    self.textPairColumn = textPairColumn
    self.labels = labels
  }

  /// The system message of a row, from its own column or the same for all.
  ///
  /// - Parameter column: what the format calls the column when the user does not say.
  func systemPrompt(for row: Row, column: String? = nil) throws -> String? {
    if let systemColumn, row[systemColumn] == nil { _ = try row.requiredText(systemColumn) }
    if let column = systemColumn ?? column, let own = try row.text(column), !own.isEmpty { return own }
    return systemPrompt
  }

  /// The tools of a row.
  func tools(of row: Row) throws -> [JSONValue]? {
    try MessagesFormat.tools(in: toolsColumn ?? "tools", of: row)
  }
}

/// A form that rows of training data commonly have.
///
/// To add one: a file with a type that conforms, and a line in ``RowFormats/all``.
public protocol RowFormat: Sendable {
  /// The name by which users choose it.
  static var name: String { get }
  /// The columns it reads, for messages and help.
  static var columns: String { get }
  /// Whether rows with these columns have this form.
  static func fits(_ columns: Set<String>, options: RowFormatOptions) -> Bool

  init(options: RowFormatOptions)

  /// - Throws: ``DataError`` with the row's place.
  func sample(from row: Row) throws -> Sample
}

/// The row formats there are.
public enum RowFormats {
  /// In the order in which they are tried on a file's columns.
  public static let all: [any RowFormat.Type] = [
    MessagesFormat.self, ConversationsFormat.self, PromptCompletionFormat.self, InstructionFormat.self,
    QuestionAnswerFormat.self, TextFormat.self, LabelledFormat.self,
  ]

  /// The format that the user names or, without a name, the first one that fits the columns of `row`.
  ///
  /// - Parameter row: a file's first row.
  /// - Throws: ``DataError`` that lists the columns found and the formats there are.
  public static func format(for row: Row, options: RowFormatOptions = .init()) throws -> any RowFormat {
    let columns = Set(row.columns)
    let known = all.map { "\($0.name) (\($0.columns))" }.joined(separator: "; ")
    if let name = options.format {
      guard let type = all.first(where: { $0.name == name }) else {
        throw DataError("there is no row format `\(name)`", remedy: "There are: \(known)")
      }
      return type.init(options: options)
    }
    // Columns that the user names decide, also where others would fit a format.
    let named: (any RowFormat.Type)? =
      if options.labels != nil {
        LabelledFormat.self
      } else if options.promptColumn != nil || options.responseColumn != nil {
        QuestionAnswerFormat.self
      } else if options.messagesColumn != nil {
        MessagesFormat.self
      } else if options.textColumn != nil {
        TextFormat.self
      } else {
        nil
      }
    let candidates = named.map { [$0] } ?? all
    guard let type = candidates.first(where: { $0.fits(columns, options: options) }) else {
      throw DataError(
        "the columns \(Row.list(row.columns)) are those of no row format", at: .init(file: row.location.file),
        remedy: "Rename columns with `graft data convert --columns`, or name the prompt and the response"
          + " column. Formats: \(known)")
    }
    return type.init(options: options)
  }
}
