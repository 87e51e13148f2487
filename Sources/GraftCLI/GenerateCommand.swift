import ArgumentParser
import Datasets
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

/// `graft generate`: answers to prompts.
struct GenerateCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "generate",
    abstract: "Answer prompts.",
    discussion: """
      Prompts go through the model's chat template unless --raw is given. Without a prompt, or with `-`, standard input \
      is one. One answer is printed while it is made; several are printed in order, an empty line between them, or one \
      JSON object a line. A prompt file is a text file with a prompt a line, or CSV, TSV, JSON or JSONL with a column \
      `prompt`, `question` or `messages`.

      EXAMPLE
        graft generate Qwen2.5-0.5B-Instruct "What helps against a cough?" --adapter runs/medical
        graft generate model --raw --temperature 0.8 --seed 1 --prompt "Once upon a time"
        graft generate model --prompt-file questions.jsonl --batch-size 16 --json > answers.jsonl
      """)

  @OptionGroup var model: ModelOptions

  @Argument(help: "The prompt; - reads standard input.")
  var prompt: String?

  @Option(
    name: .customLong("prompt"), help: ArgumentHelp("A prompt. May be repeated.", valueName: "text"))
  var prompts: [String] = []

  @Option(help: ArgumentHelp("Answer every prompt of this file.", valueName: "file"))
  var promptFile: String?

  @Option(
    help: ArgumentHelp(
      "Which adapter is active; none is the base alone (default: the first).", valueName: "name"))
  var use: String?

  @Option(help: "The system message.")
  var system: String?

  @Flag(help: "Continue the prompt as it is, without the chat template.")
  var raw = false

  @OptionGroup var generation: GenerationOptions

  @Option(help: "Prompts that are answered at a time.")
  var batchSize = 8

  @Flag(help: "Print JSON when an answer is complete.")
  var json = false

  @Flag(name: .shortAndLong, help: "Say how long it took, on standard error.")
  var verbose = false

  func validate() throws {
    guard !(raw && system != nil) else { throw ValidationError("--system has no place with --raw.") }
    guard prompt != "", !prompts.contains("") else { throw ValidationError("The prompt is empty.") }
    guard [prompt != nil, !prompts.isEmpty, promptFile != nil].count(where: { $0 }) <= 1 else {
      throw ValidationError("Give the prompt as an argument, with --prompt or with --prompt-file, not twice.")
    }
    guard batchSize >= 1 else {
      throw ValidationError("--batch-size \(batchSize) is too few; write 1 or more.")
    }
  }

  func run() async throws {
    // Before the model: a mistake here should not cost its loading.
    let requests = try readRequests()
    let loaded = try model.load(using: use)
    let inputs = try requests.map { request in
      switch request {
      case .text(let text) where raw: loaded.tokenizer.encode(text)
      case .text(let text): try loaded.tokenizer.applyChatTemplate(systemMessage + [.user(text)])
      case .messages(let messages):
        try loaded.tokenizer.applyChatTemplate(
          messages.first?.role == "system" ? messages : systemMessage + messages)
      }
    }
    let config = generation.config(over: loaded.generation)
    let generator = try loaded.generator

    AnswerInterruption.install()
    AnswerInterruption.begin()
    let streams = requests.count == 1 && !json
    var totals = GenerationStatistics()
    for start in stride(from: 0, to: inputs.count, by: batchSize) {
      let batch = start..<min(start + batchSize, inputs.count)
      let outputs = try generator.generate(
        Array(inputs[batch]), config, onText: streams ? { try Console.result($1, terminator: "") } : nil,
        isCancelled: { AnswerInterruption.isRequested })
      totals.add(generator.statistics)
      for (index, output) in zip(batch, outputs) {
        try print(
          output, of: requests[index], isFirst: index == 0, streamed: streams,
          statistics: generator.statistics)
      }
      if AnswerInterruption.isRequested {
        throw Interrupted(message: "Interrupted; the answers so far are printed.")
      }
    }
    AnswerInterruption.end()
    if verbose { Console.message(totals.line) }
  }

  private var systemMessage: [Message] { system.map { [.system($0)] } ?? [] }

  private func print(
    _ output: GenerationOutput, of request: Request, isFirst: Bool, streamed: Bool,
    statistics: GenerationStatistics
  ) throws {
    if json {
      let report = JSONValue.object([
        "prompt": request.json, "text": .string(output.text),
        "finish_reason": .string(output.finishReason.name),
        "prompt_tokens": .integer(output.promptTokenCount), "generated_tokens": .integer(output.tokens.count),
        "tokens": .array(output.tokens.map { .integer(Int($0)) }),
        // Of the batch that the answer was made in, reading the prompts included.
        "tokens_per_second": .number(statistics.tokensPerSecond),
      ])
      try Console.result(report.serialized())
    } else if streamed {
      try Console.result("")
    } else {
      try Console.result((isFirst ? "" : "\n") + output.text)
    }
  }

  // MARK: Prompts

  private enum Request {
    case text(String)
    case messages([Message])

    var json: JSONValue {
      switch self {
      case .text(let text): .string(text)
      case .messages(let messages): .array(messages.map(\.json))
      }
    }
  }

  private func readRequests() throws -> [Request] {
    if let promptFile { return try readFile(promptFile) }
    if !prompts.isEmpty { return prompts.map(Request.text) }
    if let prompt, prompt != "-" { return [.text(prompt)] }
    if prompt == nil, isatty(STDIN_FILENO) != 0 {
      throw ValidationError(
        "There is no prompt; write one behind the model, or name a file with --prompt-file.")
    }
    let text = String(decoding: try FileHandle.standardInput.readToEnd() ?? Data(), as: UTF8.self)
    // The line break with which a shell ends its text is not the user's.
    let prompt = text.hasSuffix("\n") ? String(text.dropLast()) : text
    guard !prompt.isEmpty else {
      throw CommandError("Standard input holds no prompt", remedy: "write one behind the model")
    }
    return [.text(prompt)]
  }

  private func readFile(_ path: String) throws -> [Request] {
    let reader = try DataFile(path).reader()
    var requests: [Request] = []
    while let row = try reader.next() {
      if case .array(let values)? = row["messages"] {
        requests.append(.messages(try values.map { try Message($0) }))
        continue
      }
      guard let column = ["prompt", "question", "text"].first(where: { row[$0] != nil }) else {
        throw CommandError(
          "\(path) has no column `prompt`, `question`, `messages` or `text`; it has "
            + row.columns.map { "`\($0)`" }.joined(separator: ", "),
          remedy: "rename one with `graft data convert --columns prompt=NAME`")
      }
      requests.append(.text(try row.requiredText(column)))
    }
    guard !requests.isEmpty else {
      throw CommandError("\(path) holds no prompts", remedy: "check that it is the right file")
    }
    return requests
  }
}

extension GenerationStatistics {
  mutating func add(_ other: GenerationStatistics) {
    promptTokens += other.promptTokens
    prefillSeconds += other.prefillSeconds
    decodedTokens += other.decodedTokens
    decodeSeconds += other.decodeSeconds
    answers += other.answers
  }

  /// One line for people.
  var line: String {
    func rate(_ tokens: Int, _ perSecond: Double) -> String {
      "\(tokens) tokens at \(String(format: "%.1f", perSecond)) tokens/s"
    }
    return
      "read \(rate(promptTokens, prefillTokensPerSecond)), wrote \(rate(decodedTokens, decodeTokensPerSecond))"
  }
}
