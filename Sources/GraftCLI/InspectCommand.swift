import Adapters
import ArgumentParser
import Datasets
import Foundation
import Generation
import JSON
import Models
import NeuralNetworks
import Torch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// `graft inspect`: what a model is made of.
struct InspectCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show a model's modules, parameters, type and memory.",
    discussion: """
      Weights are not loaded. With --adapter, the modules that it works on are listed with the shapes of what it adds. \
      With --supervision, an example of a data file is shown token by token, with the tokens that carry loss marked.

      EXAMPLE
        graft inspect Qwen2.5-0.5B-Instruct --adapter runs/medical
        graft inspect Qwen2.5-0.5B-Instruct --supervision train.json --row 3
      """)

  @OptionGroup var model: ModelOptions

  @Option(help: ArgumentHelp("Show an example of this data file token by token.", valueName: "file"))
  var supervision: String?

  @Option(help: "Which example to show, from 1.")
  var row = 1

  @OptionGroup var data: DataOptions

  @Flag(help: "Print JSON.")
  var json = false

  func validate() throws {
    guard row >= 1 else { throw ValidationError("--row \(row) is no row; write 1 or more.") }
  }

  func run() async throws {
    let (base, adapters) = try model.resolved()
    let source = try PretrainedSource(base)
    if let supervision { return try showSupervision(of: supervision, source) }
    let report = try ModelReport(source, adapters: adapters, dtype: model.compute.baseType)
    if json { return try Console.result(report.json.serialized(indent: 2)) }
    try Console.result(report.text)
  }

  // MARK: Supervision

  private func showSupervision(of path: String, _ source: PretrainedSource) throws {
    let tokenizer = try AutoTokenizer.fromPretrained(source)
    let file = try DataFile(path, options: ReadingOptions(encoding: data.encoding))
    if let detection = file.detection { Console.message("\(path): \(detection)") }
    let encoder = ExampleEncoder(
      TextTokenization(
        tokenizer.tokenizer, chatTemplate: tokenizer.chatTemplate, identity: tokenizer.identity),
      options: EncodingOptions(maxLength: data.maxLength))
    let reader = try file.reader()
    var format: (any RowFormat)?
    var number = 0
    while let row = try reader.next() {
      number += 1
      let rowFormat = try format ?? RowFormats.format(for: row, options: data.rowFormatOptions)
      format = rowFormat
      guard number == self.row else { continue }
      return try show(encoder.encode(rowFormat.sample(from: row), at: row.location), tokenizer)
    }
    throw CommandError(
      "\(path) has \(number) rows, so there is no row \(row)", remedy: "write a smaller --row")
  }

  private func show(_ outcome: ExampleEncoder.Outcome, _ tokenizer: ChatTokenizer) throws {
    switch outcome {
    case .tooLong(let count):
      throw CommandError("Row \(row) has \(count) tokens and would be dropped", remedy: "raise --max-length")
    case .unsupervised(let byTruncation):
      throw CommandError(
        "No token of row \(row) would carry loss"
          + (byTruncation ? " within --max-length \(data.maxLength)" : ""),
        remedy: byTruncation ? "raise --max-length" : "check that its answer is not empty")
    case .example(let example, let fullLength):
      if json {
        return try Console.result(
          JSONValue.object([
            "tokens": .array(example.tokens.map { .integer(Int($0)) }),
            "labels": .array(example.labels.map { .integer(Int($0)) }),
            "pieces": .array(example.tokens.map { .string(piece($0, tokenizer)) }),
          ]).serialized())
      }
      let coloured =
        isatty(STDOUT_FILENO) != 0 && (ProcessInfo.processInfo.environment["NO_COLOR"] ?? "").isEmpty
      let printer = SupervisionPrinter(isColoured: coloured) { piece($0, tokenizer) }
      for line in printer.lines(example) { try Console.result(line) }
      try Console.result(printer.summary(example))
      if fullLength > example.count {
        try Console.result("cut from \(fullLength) tokens by --max-length \(data.maxLength)")
      }
    }
  }

  private func piece(_ token: Int32, _ tokenizer: ChatTokenizer) -> String {
    tokenizer.decode([token], skipSpecialTokens: false)
  }
}
