import Foundation
import JSON
import OrderedCollections

/// `metrics.jsonl`: one JSON object a record, with the names of transformers' log history.
///
/// ```json
/// {"step": 10, "loss": 1.83, "learning_rate": 0.0002, "grad_norm": 0.71, "epoch": 0.04, …}
/// {"step": 10, "epoch": 0.04, "eval_loss": 1.79, …}
/// {"step": 11, "skipped": "overflow", "parameter": "….lora_B.weight", "loss_scale": 65536}
/// ```
public final class MetricsFile: MetricsSink {
  /// The name of the file in a run's folder.
  public static let name = "metrics.jsonl"

  private let file: AppendingFile

  /// Opens the file of a run.
  ///
  /// - Parameters:
  ///   - path: the file.
  ///   - resumedStep: the step the run continues from: records of later steps, which the continued run makes again, and
  ///     a torn last line are cut off. nil for a new run: an older file of that name is kept under a number.
  /// - Throws: `LoggingError` when the file cannot be opened.
  public init(path: String, resumedStep: Int?) throws {
    if resumedStep == nil { try Self.putAside(path) }
    file = try AppendingFile(path: path)
    if let resumedStep { try keep(upTo: resumedStep) }
  }

  public func record(_ report: StepReport) throws {
    var line: OrderedDictionary<String, JSONValue> = ["step": .integer(report.step)]
    for (name, value) in report.values { line[name] = Self.json(value) }
    try append(line)
  }

  public func record(_ report: SkippedStepReport) throws {
    var line: OrderedDictionary<String, JSONValue> = ["step": .integer(report.step)]
    switch report.reason {
    case .nothingSupervised: line["skipped"] = "nothing_supervised"
    case .overflow(let parameter, let lossScale):
      line["skipped"] = "overflow"
      line["parameter"] = .string(parameter)
      line["loss_scale"] = Self.json(lossScale)
    }
    try append(line)
  }

  public func record(_ report: EvaluationReport) throws {
    var line: OrderedDictionary<String, JSONValue> = [
      "step": .integer(report.step), "epoch": Self.json(report.epoch),
    ]
    for (name, value) in report.values { line["eval_" + name] = Self.json(value) }
    try append(line)
    try file.synchronize()
  }

  public func finish() throws { try file.synchronize() }

  /// The records of a file, without a torn last line.
  ///
  /// - Throws: `LoggingError` when the file cannot be read.
  public static func records(path: String) throws -> [JSONValue] {
    guard let data = FileManager.default.contents(atPath: path) else {
      throw LoggingError("\(path) cannot be read", remedy: "check that it exists and that you may read it")
    }
    return data.split(separator: UInt8(ascii: "\n")).compactMap { try? JSONValue(parsing: Data($0)) }
  }

  private func append(_ line: OrderedDictionary<String, JSONValue>) throws {
    try file.append(Data((JSONValue.object(line).serialized() + "\n").utf8))
  }

  /// JSON has no infinity; whole counts are written as such.
  private static func json(_ value: Double) -> JSONValue {
    guard value.isFinite else { return .null }
    return value >= 1e6 ? Int(exactly: value).map { .integer($0) } ?? .number(value) : .number(value)
  }

  private func keep(upTo step: Int) throws {
    let data = try file.contents()
    var kept = 0
    for line in data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
      // A line without its newline is torn, even if it happens to parse.
      guard line.endIndex < data.endIndex, let record = try? JSONValue(parsing: Data(line)),
        let recorded = record["step"]?.intValue, recorded <= step
      else { break }
      kept = line.endIndex + 1
    }
    if kept < data.count { try file.truncate(to: kept) }
  }

  private static func putAside(_ path: String) throws {
    let manager = FileManager.default
    guard manager.fileExists(atPath: path) else { return }
    var number = 1
    while manager.fileExists(atPath: "\(path).\(number)") { number += 1 }
    do {
      try manager.moveItem(atPath: path, toPath: "\(path).\(number)")
    } catch {
      throw LoggingError(
        "\(path) of an earlier run cannot be put aside: \(error.localizedDescription)",
        remedy: "choose another `output_dir`")
    }
  }
}
