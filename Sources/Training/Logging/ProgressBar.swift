import Foundation

/// Progress on the terminal: one line that is redrawn, or a line for each record where there is no terminal.
public final class ProgressBar: MetricsSink {
  private let status: StatusLine
  private let now: () -> Double
  private var lastDraw = -Double.infinity
  private var lastStep: StepReport?

  /// Drawing more often than this only costs time.
  private static let interval = 0.1

  public convenience init(on status: StatusLine) {
    self.init(on: status) { ProcessInfo.processInfo.systemUptime }
  }

  package init(on status: StatusLine, now: @escaping () -> Double) {
    self.status = status
    self.now = now
  }

  public func step(_ report: StepReport) {
    lastStep = report
    let time = now()
    guard time - lastDraw >= Self.interval || report.step == report.totalSteps else { return }
    lastDraw = time
    status.draw { Self.line(report, width: $0) }
  }

  public func record(_ report: StepReport) {
    if !status.isTerminal { status.print(Self.plainLine(report)) }
  }

  public func record(_ report: SkippedStepReport) {
    switch report.reason {
    case .nothingSupervised:
      status.print("step \(report.step) updated nothing: nothing in its batches carries loss")
    case .overflow(let parameter, let lossScale):
      status.print(
        "step \(report.step) updated nothing: the gradient of \(parameter) overflowed float16, the loss times \(lossScale)"
      )
    }
  }

  public func record(_ report: EvaluationReport) {
    var parts = ["step \(report.step): evaluation loss \(Self.loss(report.loss))"]
    for (name, value) in report.metrics { parts.append("\(name) \(Self.loss(value))") }
    parts.append("\(report.supervised) \(report.supervisedUnit) in \(Self.duration(report.seconds))")
    status.print(parts.joined(separator: ", "))
  }

  public func finish() {
    if let lastStep { status.draw { Self.line(lastStep, width: $0) } }
    status.end()
  }

  /// The redrawn line: what matters most comes first, the bar takes the columns that are left.
  package static func line(_ report: StepReport, width: Int) -> String {
    let fraction = min(1, Double(report.step) / Double(max(1, report.totalSteps)))
    let head = String(format: "%3d%% ", Int(fraction * 100))
    var parts = ["\(report.step)/\(report.totalSteps)", "loss \(loss(report.loss))"]
    parts.append(report.secondsLeft.map { "\(duration($0)) left" } ?? "\(duration(report.seconds))")
    parts.append("\(count(report.tokensPerSecond)) tok/s")
    parts.append("lr \(rate(report.learningRate))")
    parts.append(bytes(report.memory))
    // Whole parts are left out on a narrow terminal rather than cut in the middle.
    while parts.count > 1, head.count + parts.joined(separator: "  ").count > width { parts.removeLast() }
    let tail = parts.joined(separator: "  ")
    let columns = min(30, width - head.count - tail.count - 3)
    guard columns >= 6 else { return head + tail }
    let filled = Int((fraction * Double(columns)).rounded(.down))
    let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: columns - filled)
    return "\(head)\(bar)  \(tail)"
  }

  /// The line of a log file.
  package static func plainLine(_ report: StepReport) -> String {
    let percent = 100 * report.step / max(1, report.totalSteps)
    var text = "step \(report.step)/\(report.totalSteps) (\(percent)%): loss \(loss(report.loss)), "
    text += "learning rate \(rate(report.learningRate)), \(count(report.tokensPerSecond)) tokens/s, "
    text += bytes(report.memory)
    if report.skippedSteps > 0 { text += ", \(report.skippedSteps) steps skipped" }
    if let left = report.secondsLeft { text += ", \(duration(left)) left" }
    return text
  }

  /// Hours, minutes and seconds: `1:02:03`, `2:03`.
  package static func duration(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e9 else { return "?" }
    let total = Int(max(0, seconds).rounded())
    let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60)
    return hours > 0
      ? String(format: "%d:%02d:%02d", hours, minutes, rest) : String(format: "%d:%02d", minutes, rest)
  }

  package static func bytes(_ count: Int) -> String {
    count >= 1 << 30
      ? String(format: "%.1f GB", Double(count) / Double(1 << 30)) : "\(count >> 20) MB"
  }

  private static func count(_ value: Double) -> String {
    value >= 10_000 ? String(format: "%.1fk", value / 1000) : String(format: "%.0f", value)
  }

  private static func loss(_ value: Double) -> String {
    value.isFinite ? String(format: "%.4f", value) : "none"
  }

  private static func rate(_ value: Double) -> String { String(format: "%.2e", value) }
}
