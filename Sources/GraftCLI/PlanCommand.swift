import ArgumentParser
import Foundation
import JSON
import OrderedCollections
import Training

/// `graft plan`: what a run will take, before it is started.
struct PlanCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Say what memory a run will take, whether it fits, and what to change.",
    discussion: """
      Shapes are read from config.json or the header of the GGUF file; no weight is loaded, and a folder with nothing but \
      config.json will do. The largest batch is taken from the data where there is a tokenizer, otherwise every row is \
      taken to be max_length long.

      EXAMPLE
        graft plan config.yaml
        graft plan config.yaml --weights nf4-double --memory 48GB --set per_device_train_batch_size=1
      """)

  @Argument(help: "The YAML configuration.")
  var configurationFile: String

  @Option(
    name: .customLong("set"), parsing: .singleValue,
    help: ArgumentHelp("Override a key of the file. May be repeated.", valueName: "key=value"))
  var overrides: [String] = []

  @Option(
    help: ArgumentHelp("Assume weights in this format: nf4, nf4-double, int8, q4_k, …", valueName: "format"))
  var weights: String?

  @Option(
    help: ArgumentHelp("Assume a device with this memory: 48GB, 24GiB.", valueName: "size"),
    transform: { text in
      guard let bytes = PlanCommand.bytes(text) else {
        throw ValidationError("`\(text)` is no amount of memory; write 48GB or 24GiB.")
      }
      return bytes
    })
  var memory: Int?

  @Flag(help: "Print JSON.")
  var json = false

  func run() async throws {
    let configuration = try RunConfiguration(contentsOf: configurationFile, overrides: overrides)
    let plan = try await RunPlan(configuration, weights: weights, capacity: memory)
    try Console.result(json ? Self.json(plan).serialized(indent: 2) : Self.text(plan))
    if plan.fits == false { throw ExitCode.failure }
  }

  static func bytes(_ text: String) -> Int? {
    let units: [(String, Double)] = [("GiB", 0x1p30), ("MiB", 0x1p20), ("GB", 1e9), ("MB", 1e6)]
    for (unit, size) in units where text.lowercased().hasSuffix(unit.lowercased()) {
      guard let number = Double(text.dropLast(unit.count)), number > 0, number < 1e9 else { return nil }
      return Int(number * size)
    }
    return nil
  }

  // MARK: Output

  private static func text(_ result: RunPlan) -> String {
    let plan = result.plan
    let notes = [
      "weights":
        "\((plan.allParameters - plan.trainableParameters).grouped) parameters, \(result.format.name)",
      "adapter": "\(plan.trainableParameters.grouped) parameters, float32",
      "optimizer": plan.isPaged ? "paged: what is not in use may leave the device's memory" : "",
      "activations": "the largest batch: \(plan.batch.tokens.grouped) tokens"
        + (result.isMeasuredBatch ? "" : ", every row of the greatest length"),
      "workspace": "logits at \(plan.batch.supervised.grouped) supervised tokens, gradients on their way",
      "program": "program, engine and rows",
    ]
    var lines = plan.parts.map { name, bytes in
      let note = notes[name] ?? ""
      return "\(column(name, 13))\(size(bytes))" + (note.isEmpty ? "" : "   \(note)")
    }
    lines.append("\(column("total", 13))\(size(plan.total))")
    guard let capacity = result.capacity else {
      lines.append("The device does not tell its memory; name it with --memory.")
      return lines.joined(separator: "\n")
    }
    let verdict = plan.total <= capacity ? "It fits." : "It does not fit."
    lines.append("\(column("device", 13))\(size(capacity))   \(verdict)")
    if !result.changes.isEmpty, plan.total > capacity * 8 / 10 {
      lines.append("")
      lines.append("What takes less:")
      for change in result.changes {
        lines.append("  \(size(change.total))   \(change.settings)   (\(change.cost))")
      }
    }
    return lines.joined(separator: "\n")
  }

  private static func json(_ result: RunPlan) -> JSONValue {
    let plan = result.plan
    var object: OrderedDictionary<String, JSONValue> = [:]
    for (name, bytes) in plan.parts { object[name] = .integer(bytes) }
    object["total"] = .integer(plan.total)
    object["capacity"] = result.capacity.map { .integer($0) } ?? .null
    object["fits"] = result.fits.map { .bool($0) } ?? .null
    object["trainable_parameters"] = .integer(plan.trainableParameters)
    object["parameters"] = .integer(plan.allParameters)
    object["batch_tokens"] = .integer(plan.batch.tokens)
    object["batch_supervised_tokens"] = .integer(plan.batch.supervised)
    object["changes"] = .array(
      result.changes.map { ["settings": .string($0.settings), "total": .integer($0.total)] })
    return .object(object)
  }

  private static func column(_ text: String, _ width: Int) -> String {
    text.padding(toLength: width, withPad: " ", startingAt: 0)
  }

  private static func size(_ bytes: Int) -> String { String(format: "%9.3f GB", Double(bytes) / 1e9) }
}
