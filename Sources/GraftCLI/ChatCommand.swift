import ArgumentParser
import Foundation
import Generation
import JSON
import Tokenizers

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// `graft chat`: a conversation on the terminal.
struct ChatCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "chat",
    abstract: "Talk to a model.",
    discussion: """
      Lines that begin with a slash are commands: /adapter NAME switches adapters, /adapter none uses the base alone, \
      /help lists all. Ctrl-C ends an answer, Ctrl-D the conversation.

      EXAMPLE
        graft chat Qwen2.5-0.5B-Instruct --adapter medical=runs/medical --adapter legal=runs/legal
      """)

  @OptionGroup var model: ModelOptions

  @Option(
    help: ArgumentHelp(
      "Which adapter is active; none is the base alone (default: the first).", valueName: "name"))
  var use: String?

  @Option(help: "The system message.")
  var system: String?

  @OptionGroup var generation: GenerationOptions

  @Flag(name: .shortAndLong, help: "Say after each answer how long it took.")
  var verbose = false

  func run() async throws {
    let loaded = try model.load(using: use)
    guard loaded.tokenizer.chatTemplate != nil else {
      throw CommandError(
        "\(model.model) has no chat template, so there is no conversation with it",
        remedy:
          "use an instruction-tuned model, put a chat_template.jinja into its folder, or continue text with "
          + "`graft generate --raw`")
    }
    AnswerInterruption.install()
    var session = try ChatSession(
      loaded, system: system, config: generation.config(over: loaded.generation), isVerbose: verbose)
    try session.run()
  }
}

/// A conversation: what was said, and what the user's lines do to it.
private struct ChatSession {
  private let loaded: LoadedModel
  private let generator: Generator
  private let config: GenerationConfig
  private let isVerbose: Bool
  private var system: String?
  private var messages: [Message] = []

  init(_ loaded: LoadedModel, system: String?, config: GenerationConfig, isVerbose: Bool) throws {
    self.loaded = loaded
    self.system = system
    self.config = config
    self.isVerbose = isVerbose
    generator = try loaded.generator
    generator.conversation = ReadPrefix(generator.model)
  }

  private static let help = """
    /adapter NAME   answer with this adapter from now on; none is the base alone
    /adapters       list the adapters
    /system TEXT    set the system message; without a text, remove it
    /reset          forget the conversation (/clear, too)
    /save FILE      write the conversation as JSON
    /help           this list
    /exit           leave (Ctrl-D, too)
    A line that begins with // is said with one slash.
    """

  mutating func run() throws {
    let isTerminal = isatty(STDIN_FILENO) != 0
    if isTerminal { Console.message("Type a message, or /help.") }
    while true {
      if isTerminal { try FileHandle.standardError.write(contentsOf: Data("> ".utf8)) }
      guard let line = readLine() else {
        if isTerminal { Console.message("") }
        return
      }
      let text = line.trimmingCharacters(in: .whitespaces)
      if text.isEmpty { continue }
      if text.hasPrefix("/"), !text.hasPrefix("//") {
        guard try perform(text) else { return }
      } else {
        try answer(text.hasPrefix("//") ? String(text.dropFirst()) : line)
      }
    }
  }

  // MARK: Answers

  private mutating func answer(_ text: String) throws {
    messages.append(.user(text))
    do {
      let head = system.map { [Message.system($0)] } ?? []
      AnswerInterruption.begin()
      defer { AnswerInterruption.end() }
      let output = try generator.generate(
        head + messages, config, onText: { try Console.result($1, terminator: "") },
        isCancelled: { AnswerInterruption.isRequested })
      try Console.result("")
      messages.append(.assistant(output.text))
      if output.finishReason == .contextLength {
        Console.message("The model's context is full; /reset begins a new conversation.")
      }
      if isVerbose { Console.message(generator.statistics.line) }
    } catch let error as BrokenPipe {
      throw error
    } catch {
      // The conversation goes on as if this had not been said.
      messages.removeLast()
      Console.message("error: " + ErrorReport.paragraph(error))
    }
  }

  // MARK: Commands

  /// - Returns: whether the conversation goes on.
  private mutating func perform(_ line: String) throws -> Bool {
    let parts = line.split(separator: " ", maxSplits: 1)
    let argument = parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : ""
    switch parts[0] {
    case "/exit", "/quit": return false
    case "/help": Console.message(Self.help)
    case "/reset", "/clear":
      messages = []
      Console.message("A new conversation.")
    case "/system":
      system = argument.isEmpty ? nil : argument
      Console.message(system == nil ? "No system message." : "The system message is set.")
    case "/adapters": listAdapters()
    case "/adapter": switchAdapter(to: argument)
    case "/save": save(to: argument)
    default: Console.message("There is no command \(parts[0]); /help lists all.")
    }
    return true
  }

  private func listAdapters() {
    let active = loaded.model.activeAdapters
    for name in loaded.model.adapterNames {
      Console.message((active.contains(name) ? "* " : "  ") + name)
    }
    Console.message((active.isEmpty ? "* " : "  ") + "none (the base alone)")
  }

  private func switchAdapter(to name: String) {
    guard !name.isEmpty else { return listAdapters() }
    do {
      try loaded.model.setAdapters(name == "none" ? [] : [name])
      // What another adapter read is not what this one would have.
      generator.conversation = ReadPrefix(generator.model)
      Console.message(name == "none" ? "The base alone answers now." : "\(name) answers now.")
    } catch {
      Console.message("error: " + ErrorReport.paragraph(error))
    }
  }

  private func save(to path: String) {
    guard !path.isEmpty else { return Console.message("Name a file: /save FILE.") }
    guard !FileManager.default.fileExists(atPath: path) else {
      return Console.message("\(path) exists; name another file.")
    }
    let head = system.map { [Message.system($0)] } ?? []
    let json = JSONValue.object(["messages": .array((head + messages).map(\.json))])
    do {
      try Data((json.serialized(indent: 2) + "\n").utf8).write(
        to: URL(fileURLWithPath: path), options: .atomic)
      Console.message("The conversation is in \(path).")
    } catch {
      Console.message("error: " + ErrorReport.paragraph(error))
    }
  }
}
