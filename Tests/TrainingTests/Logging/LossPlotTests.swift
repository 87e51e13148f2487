import Foundation
import JSON
import Testing
import Training

@Suite("Plot of the loss")
struct LossPlotTests {
  /// A run whose loss falls noisily, the same every time.
  static let run: LossPlot = {
    var state: UInt64 = 7
    func noise() -> Double {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Double(state >> 40) / Double(1 << 24) - 0.5
    }
    let training = (1...180).map { index in
      LossPlot.Point(step: index * 10, loss: 0.35 + 2.1 * exp(-Double(index) / 30) + 0.25 * noise())
    }
    let evaluation = (1...6).map { index in
      LossPlot.Point(step: index * 300, loss: 0.42 + 1.9 * exp(-Double(index * 30) / 32))
    }
    return LossPlot(title: "medical: LoRA on Qwen2.5-0.5B <r=8>", training: training, evaluation: evaluation)
  }()

  static let cases: [LossPlot] = [
    run, LossPlot(title: "empty"), LossPlot(title: "one", training: [.init(step: 1, loss: 2)]),
    LossPlot(title: "flat", training: [.init(step: 1, loss: 0), .init(step: 2, loss: 0)]),
    LossPlot(title: "not finite", training: [.init(step: 1, loss: .nan), .init(step: 2, loss: .infinity)]),
    LossPlot(title: "negative", training: [.init(step: 1, loss: -3), .init(step: 2, loss: 5e6)]),
    LossPlot(title: "long", training: (1...100_000).map { .init(step: $0, loss: 1 / Double($0)) }),
    LossPlot(title: "only evaluated", evaluation: [.init(step: 5, loss: 1e-4), .init(step: 9, loss: 2e-4)]),
  ]

  @Test("every plot is well-formed XML of bounded size with no number missing", arguments: cases.indices)
  func wellFormed(index: Int) throws {
    let text = Self.cases[index].svg()
    #expect(text.utf8.count < 100_000)
    #expect(!text.contains("nan") && !text.contains("inf"))
    // Tags balance and nothing is left unescaped.
    var open: [Substring] = []
    for match in text.matches(of: #/<(\/?)([a-zA-Z]+)[^<>]*?(\/?)>/#) {
      if match.3 == "/" { continue }
      if match.1 == "/" { #expect(open.popLast() == match.2) } else { open.append(match.2) }
    }
    #expect(open.isEmpty)
    #expect(text.count { $0 == "<" } == text.count { $0 == ">" })
  }

  @Test("evaluations are points and the title is escaped")
  func content() {
    let text = Self.run.svg()
    #expect(text.matches(of: #/<circle class="evaluation"[^>]*><title>/#).count == 6)
    #expect(text.contains("Qwen2.5-0.5B &lt;r=8&gt;"))
    #expect(text.contains("prefers-color-scheme: dark"))
    #expect(text.contains("best 0.427 at step 1800"))
  }

  @Test("the points come back from metrics.jsonl")
  func fromRecords() throws {
    let folder = try TemporaryFolder()
    let file = try MetricsFile(path: folder.path("m.jsonl"), resumedStep: nil)
    try file.record(Example.step(10, loss: 3))
    try file.record(Example.evaluation(10, loss: 2))
    let plot = LossPlot(title: "t", records: try MetricsFile.records(path: folder.path("m.jsonl")))
    #expect(plot.training == [.init(step: 10, loss: 3)])
    #expect(plot.evaluation == [.init(step: 10, loss: 2)])
  }

  @Test("the file is there after an evaluation and at the end")
  func file() throws {
    let folder = try TemporaryFolder()
    let file = LossPlotFile(path: folder.path("loss.svg"), plot: LossPlot(title: "t"))
    try file.record(Example.step(10))
    try file.record(Example.evaluation(10))
    #expect(try folder.text("loss.svg").contains("<circle class=\"evaluation\""))
    try file.record(Example.step(20))
    try file.finish()
    #expect(try folder.text("loss.svg").contains("<path class=\"smooth\""))
  }

  @Test(
    "the example is written where GRAFT_PLOT_EXAMPLE says, to be looked at",
    .enabled(if: ProcessInfo.processInfo.environment["GRAFT_PLOT_EXAMPLE"] != nil))
  func example() throws {
    let path = try #require(ProcessInfo.processInfo.environment["GRAFT_PLOT_EXAMPLE"])
    try Self.run.svg().write(toFile: path, atomically: true, encoding: .utf8)
  }
}
