import Foundation
import JSON

/// A plot of a run's loss as SVG: the training loss, faint as recorded and strong as smoothed, and the evaluations as
/// points.
public struct LossPlot: Sendable, Hashable {
  /// A value at an optimizer step.
  public struct Point: Sendable, Hashable {
    public var step: Int
    public var loss: Double

    public init(step: Int, loss: Double) {
      self.step = step
      self.loss = loss
    }
  }

  public var title: String
  public var training: [Point]
  public var evaluation: [Point]

  public init(title: String, training: [Point] = [], evaluation: [Point] = []) {
    self.title = title
    self.training = training
    self.evaluation = evaluation
  }

  /// Takes the points from the records of a `metrics.jsonl`.
  public init(title: String, records: [JSONValue]) {
    self.init(title: title)
    for record in records {
      guard let step = record["step"]?.intValue else { continue }
      if let loss = record["loss"]?.doubleValue { training.append(Point(step: step, loss: loss)) }
      if let loss = record["eval_loss"]?.doubleValue { evaluation.append(Point(step: step, loss: loss)) }
    }
  }

  /// The curve through some points, each a mean of its neighbours with Gaussian weights.
  ///
  /// Centred, because an average of the past alone runs above a loss that falls. The neighbourhood is a share of the
  /// points, so that a curve looks equally smooth whatever the logging interval.
  static func smoothed(_ points: [Point]) -> [Point] {
    let deviation = Double(points.count) / 60
    guard deviation > 0.3 else { return points }
    let reach = Int((3 * deviation).rounded(.up))
    let weights = (0...reach).map { exp(-0.5 * pow(Double($0) / deviation, 2)) }
    return points.indices.map { center in
      var sum = 0.0
      var total = 0.0
      for index in max(0, center - reach)...min(points.count - 1, center + reach) {
        let weight = weights[abs(index - center)]
        sum += weight * points[index].loss
        total += weight
      }
      return Point(step: points[center].step, loss: sum / total)
    }
  }
}

// MARK: Drawing

extension LossPlot {
  private static let width = 860.0
  private static let height = 460.0
  private static let left = 68.0
  private static let right = 836.0
  private static let top = 62.0
  private static let bottom = 404.0

  /// The plot as a document that stands alone, legible on light and dark pages.
  public func svg() -> String {
    let raw = Self.thinned(training.filter(\.loss.isFinite))
    let smooth = Self.smoothed(raw)
    let evaluations = evaluation.filter(\.loss.isFinite)
    let xAxis = Axis(
      from: 0, to: Double(max(1, (raw + evaluations).map(\.step).max() ?? 1)), ticks: 8, wholeNumbers: true)
    let (low, high) = Self.range(raw: raw, curves: smooth + evaluations)
    let yAxis = Axis(from: low, to: high, ticks: 6, wholeNumbers: false, extends: true)

    func x(_ step: Int) -> Double {
      Self.left + (Double(step) - xAxis.low) / (xAxis.high - xAxis.low) * (Self.right - Self.left)
    }
    func y(_ loss: Double) -> Double {
      Self.bottom - (loss - yAxis.low) / (yAxis.high - yAxis.low) * (Self.bottom - Self.top)
    }
    func path(_ points: [Point]) -> String {
      points.enumerated().map { index, point in
        "\(index == 0 ? "M" : "L")\(Self.coordinate(x(point.step))) \(Self.coordinate(y(point.loss)))"
      }.joined()
    }

    var body = ""
    for tick in yAxis.ticks {
      let position = Self.coordinate(y(tick))
      body +=
        "<line class=\"grid\" x1=\"\(Self.left)\" y1=\"\(position)\" x2=\"\(Self.right)\" y2=\"\(position)\"/>\n"
      body += Self.text(yAxis.label(tick), x: Self.left - 10, y: y(tick) + 4, kind: "tick", anchor: "end")
    }
    for tick in xAxis.ticks {
      let position = Self.coordinate(x(Int(tick)))
      body +=
        "<line class=\"axis\" x1=\"\(position)\" y1=\"\(Self.bottom)\" x2=\"\(position)\" y2=\"\(Self.bottom + 5)\"/>\n"
      body += Self.text(
        xAxis.label(tick), x: x(Int(tick)), y: Self.bottom + 21, kind: "tick", anchor: "middle")
    }
    body +=
      "<line class=\"axis\" x1=\"\(Self.left)\" y1=\"\(Self.bottom)\" x2=\"\(Self.right)\" y2=\"\(Self.bottom)\"/>\n"
    body += Self.text(
      "step", x: (Self.left + Self.right) / 2, y: Self.bottom + 44, kind: "label", anchor: "middle")
    body +=
      "<text class=\"label\" transform=\"translate(18 \((Self.top + Self.bottom) / 2)) rotate(-90)\" "
      + "text-anchor=\"middle\">loss</text>\n"

    body += "<g clip-path=\"url(#frame)\">\n"
    if raw.count > 1 { body += "<path class=\"raw\" d=\"\(path(raw))\"/>\n" }
    if smooth.count > 1 { body += "<path class=\"smooth\" d=\"\(path(smooth))\"/>\n" }
    if evaluations.count > 1 { body += "<path class=\"between\" d=\"\(path(evaluations))\"/>\n" }
    body += "</g>\n"
    if let only = raw.first, raw.count == 1 {
      body +=
        "<circle class=\"first\" cx=\"\(Self.coordinate(x(only.step)))\" cy=\"\(Self.coordinate(y(only.loss)))\" r=\"4\"/>\n"
    }
    for point in Self.thinned(evaluations, to: 100) {
      body +=
        "<circle class=\"evaluation\" cx=\"\(Self.coordinate(x(point.step)))\" cy=\"\(Self.coordinate(y(point.loss)))\" "
        + "r=\"4.5\"><title>step \(point.step): \(Self.loss(point.loss))</title></circle>\n"
    }
    if raw.isEmpty && evaluations.isEmpty {
      body += Self.text(
        "nothing recorded yet", x: (Self.left + Self.right) / 2, y: (Self.top + Self.bottom) / 2,
        kind: "label",
        anchor: "middle")
    }
    body += legend(smooth: smooth, evaluations: evaluations)
    return Self.document(title: title, body: body)
  }

  private func legend(smooth: [Point], evaluations: [Point]) -> String {
    var text = ""
    var position = Self.left
    if let last = smooth.last {
      text += "<line class=\"smooth\" x1=\"\(position)\" y1=\"45\" x2=\"\(position + 22)\" y2=\"45\"/>\n"
      let words = "training, now \(Self.loss(last.loss))"
      text += Self.text(words, x: position + 29, y: 49, kind: "tick", anchor: "start")
      position += 60 + Double(words.count) * 6.4
    }
    if let best = evaluations.min(by: { $0.loss < $1.loss }) {
      text += "<circle class=\"evaluation\" cx=\"\(position + 8)\" cy=\"45\" r=\"4.5\"/>\n"
      text += Self.text(
        "evaluation, best \(Self.loss(best.loss)) at step \(best.step)", x: position + 20, y: 49,
        kind: "tick",
        anchor: "start")
    }
    return text
  }

  /// What the vertical axis must hold: both curves, and the recorded losses without the odd spike.
  private static func range(raw: [Point], curves: [Point]) -> (low: Double, high: Double) {
    let sorted = raw.map(\.loss).sorted()
    var values = curves.map(\.loss)
    if !sorted.isEmpty {
      values += [sorted[sorted.count / 100], sorted[sorted.count - 1 - sorted.count / 50]]
    }
    guard var low = values.min(), var high = values.max() else { return (0, 1) }
    let margin = max((high - low) * 0.05, max(abs(high), 1e-6) * 0.01)
    low = low >= 0 ? max(0, low - margin) : low - margin
    high += margin
    return (low, high)
  }

  /// At most so many points, each the mean of its neighbours, so that the size of the file is bounded.
  private static func thinned(_ points: [Point], to limit: Int = 1200) -> [Point] {
    guard points.count > limit else { return points }
    return (0..<limit).map { index in
      let group = points[index * points.count / limit..<(index + 1) * points.count / limit]
      return Point(
        step: group[group.endIndex - 1].step, loss: group.map(\.loss).reduce(0, +) / Double(group.count))
    }
  }

  private static func document(title: String, body: String) -> String {
    """
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(width)) \(Int(height))" \
    width="\(Int(width))" height="\(Int(height))" role="img">
    <title>\(escaped(title))</title>
    <style>
    svg { font-family: system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif; }
    .page { fill: #ffffff; }
    .title { font-size: 16px; font-weight: 600; fill: #1f2328; }
    .label { font-size: 13px; fill: #59636e; }
    .tick { font-size: 12px; fill: #59636e; }
    .grid { stroke: #d1d9e0; stroke-width: 1; opacity: 0.7; }
    .axis { stroke: #818b98; stroke-width: 1; }
    .raw { fill: none; stroke: #0969da; stroke-width: 1; opacity: 0.3; }
    .smooth { fill: none; stroke: #0969da; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; }
    .between { fill: none; stroke: #bc4c00; stroke-width: 1.4; stroke-dasharray: 3 4; }
    .evaluation { fill: #bc4c00; stroke: #ffffff; stroke-width: 1.5; }
    .first { fill: #0969da; }
    @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; }
    .title { fill: #f0f6fc; }
    .label, .tick { fill: #9198a1; }
    .grid { stroke: #3d444d; }
    .axis { stroke: #656c76; }
    .raw, .smooth { stroke: #58a6ff; }
    .first { fill: #58a6ff; }
    .between { stroke: #f0883e; }
    .evaluation { fill: #f0883e; stroke: #0d1117; }
    }
    </style>
    <clipPath id="frame"><rect x="\(left)" y="\(top)" width="\(right - left)" height="\(bottom - top)"/></clipPath>
    <rect class="page" width="100%" height="100%"/>
    \(text(shortened(title), x: left, y: 27, kind: "title", anchor: "start"))\(body)</svg>

    """
  }

  private static func text(_ content: String, x: Double, y: Double, kind: String, anchor: String) -> String {
    "<text class=\"\(kind)\" x=\"\(coordinate(x))\" y=\"\(coordinate(y))\" text-anchor=\"\(anchor)\">"
      + "\(escaped(content))</text>\n"
  }

  private static func shortened(_ title: String) -> String {
    title.count > 80 ? title.prefix(79) + "…" : title
  }

  private static func coordinate(_ value: Double) -> String { String(format: "%.1f", value) }

  private static func loss(_ value: Double) -> String { String(format: value < 0.1 ? "%.4f" : "%.3f", value) }

  private static func escaped(_ text: String) -> String {
    String(text.unicodeScalars.filter { $0.value >= 32 }.map(Character.init))
      .replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
  }
}

/// An axis with ticks at round values: 1, 2 or 5 times a power of ten.
private struct Axis {
  let low: Double
  let high: Double
  let ticks: [Double]
  private let decimals: Int

  /// - Parameter extends: move both ends out to a tick.
  init(from low: Double, to high: Double, ticks count: Int, wholeNumbers: Bool, extends: Bool = false) {
    let rough = (high - low) / Double(count)
    let power = pow(10, floor(log10(rough)))
    var step = ([1, 2, 5, 10].first { $0 * power >= rough } ?? 10) * power
    if wholeNumbers { step = max(1, step) }
    let first = extends ? floor(low / step) : (low / step).rounded(.up)
    let last = extends ? (high / step).rounded(.up) : floor(high / step)
    ticks = (Int(first)...max(Int(first), Int(last))).map { Double($0) * step }
    self.low = extends ? first * step : low
    self.high = extends ? last * step : high
    decimals = wholeNumbers ? 0 : max(0, Int(-floor(log10(step) + 1e-9)))
  }

  func label(_ tick: Double) -> String { String(format: "%.\(decimals)f", tick) }
}

/// Keeps a `loss.svg` up to date while a run goes on.
public final class LossPlotFile: MetricsSink {
  /// The name of the file in a run's folder.
  public static let name = "loss.svg"

  private let path: String
  private var plot: LossPlot

  /// - Parameters:
  ///   - path: the SVG file.
  ///   - plot: the points so far: those of `metrics.jsonl` in a resumed run.
  public init(path: String, plot: LossPlot) {
    self.path = path
    self.plot = plot
  }

  public func record(_ report: StepReport) throws {
    plot.training.append(.init(step: report.step, loss: report.loss))
  }

  public func record(_ report: EvaluationReport) throws {
    plot.evaluation.append(.init(step: report.step, loss: report.loss))
    try write()
  }

  public func finish() throws { try write() }

  private func write() throws {
    do {
      try plot.svg().write(toFile: path, atomically: true, encoding: .utf8)
    } catch {
      throw LoggingError(
        "\(path) cannot be written: \(error.localizedDescription)",
        remedy: "check that the folder may be written to and the disk has room")
    }
  }
}
