import Foundation

/// Event files that TensorBoard reads: scalars under `train/` and `eval/`, and the configuration as text.
///
/// The format is TFRecord (length, checksum, data, checksum) around `tensorflow.Event` messages.
public final class TensorBoardFile: MetricsSink {
  private let file: AppendingFile
  private let now: () -> Double

  /// Starts an event file.
  ///
  /// - Parameters:
  ///   - folder: the log directory that `tensorboard --logdir` is given. Every process that trains adds a file.
  ///   - resumedStep: the step the run continues from: TensorBoard then hides what earlier files have of later steps.
  ///   - configuration: the run's YAML, shown among the texts; nil shows none.
  ///   - now: seconds since 1970.
  /// - Throws: `LoggingError` when the file cannot be written.
  public convenience init(folder: String, resumedStep: Int?, configuration: String?) throws {
    let start = Date().timeIntervalSince1970
    let host = ProcessInfo.processInfo.hostName.filter {
      $0.isLetter || $0.isNumber || $0 == "." || $0 == "-"
    }
    let process = ProcessInfo.processInfo.processIdentifier
    var path = ""
    var number = 0
    repeat {
      path = "\(folder)/events.out.tfevents.\(Int(start)).\(host).\(process).\(number)"
      number += 1
    } while FileManager.default.fileExists(atPath: path)
    try self.init(path: path, resumedStep: resumedStep, configuration: configuration) {
      Date().timeIntervalSince1970
    }
  }

  package init(path: String, resumedStep: Int?, configuration: String?, now: @escaping () -> Double) throws {
    file = try AppendingFile(path: path)
    self.now = now
    try append(step: 0) { $0.write("brain.Event:2", field: 3) }
    if let resumedStep {
      // A session that starts at a step makes TensorBoard drop that step and later ones of older files.
      try append(step: resumedStep + 1) { $0.write(field: 7) { $0.write(1, field: 1) } }
    }
    if let configuration { try append(text: configuration, tag: "configuration", step: resumedStep ?? 0) }
  }

  public func record(_ report: StepReport) throws {
    try append(scalars: report.values, prefix: "train/", step: report.step)
  }

  public func record(_ report: EvaluationReport) throws {
    try append(scalars: report.values, prefix: "eval/", step: report.step)
  }

  public func finish() throws { try file.synchronize() }

  private func append(scalars: some Sequence<(key: String, value: Double)>, prefix: String, step: Int) throws
  {
    try append(step: step) { event in
      event.write(field: 5) { summary in
        for (name, value) in scalars {
          summary.write(field: 1) {
            $0.write(prefix + name, field: 1)
            $0.write(Float(value), field: 2)
          }
        }
      }
    }
  }

  /// A text of TensorBoard's text plugin: a tensor with one string, which it reads as Markdown.
  private func append(text: String, tag: String, step: Int) throws {
    let markdown = text.split(separator: "\n", omittingEmptySubsequences: false).map { "    \($0)" }
    let stringType = 7
    try append(step: step) {
      $0.write(field: 5) {
        $0.write(field: 1) { value in
          value.write(tag, field: 1)
          value.write(field: 8) { tensor in
            tensor.write(stringType, field: 1)
            tensor.write(field: 2) { $0.write(field: 2) { $0.write(1, field: 1) } }
            tensor.write(markdown.joined(separator: "\n"), field: 8)
          }
          value.write(field: 9) { $0.write(field: 1) { $0.write("text", field: 1) } }
        }
      }
    }
  }

  private func append(step: Int, _ body: (inout ProtocolBuffer) -> Void) throws {
    var event = ProtocolBuffer()
    event.write(now(), field: 1)
    // Zero is the default and is left out, as protocol buffers do.
    if step != 0 { event.write(step, field: 2) }
    body(&event)
    try file.append(Self.record(event.bytes))
  }

  /// One TFRecord.
  private static func record(_ data: [UInt8]) -> Data {
    let length = UInt64(data.count).littleEndianBytes
    return Data(
      length + CRC32C.masked(length).littleEndianBytes + data + CRC32C.masked(data).littleEndianBytes)
  }
}
