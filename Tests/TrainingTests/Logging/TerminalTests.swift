import Foundation
import Logging
import Testing
import Training

@Suite("Progress and messages on the terminal")
struct TerminalTests {
  /// What a body writes to a status line.
  private func output(
    isTerminal: Bool, usesColor: Bool = false, width: Int = 80, _ body: (StatusLine) throws -> Void
  ) throws -> String {
    let pipe = Pipe()
    try body(
      StatusLine(
        descriptor: pipe.fileHandleForWriting.fileDescriptor, usesColor: usesColor, isTerminal: isTerminal,
        width: width))
    try pipe.fileHandleForWriting.close()
    return String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
  }

  @Test("the line holds percentage, bar, step, loss, time left, speed, rate and memory")
  func fullLine() {
    #expect(
      ProgressBar.line(Example.step(420), width: 110)
        == " 42% ████████████░░░░░░░░░░░░░░░░░░  420/1000  loss 1.5000  1:12:01 left  512 tok/s  lr 2.00e-04  2.8 GB"
    )
  }

  @Test("the line fits every width", arguments: 10...130)
  func widths(width: Int) {
    let line = ProgressBar.line(Example.step(420), width: width)
    #expect(line.hasPrefix(" 42% "))
    #expect(line.count <= max(width, " 42% 420/1000".count))
  }

  @Test("a terminal gets one redrawn line, and messages above it")
  func terminal() throws {
    var time = 0.0
    let text = try output(isTerminal: true, width: 30) { status in
      let bar = ProgressBar(on: status, now: { time })
      bar.step(Example.step(1))
      bar.step(Example.step(2))  // too soon after the first
      time = 0.2
      bar.step(Example.step(3))
      bar.record(Example.step(3))
      bar.record(Example.evaluation(3))
      bar.finish()
    }
    let draw = { (step: Int) in "\r  0% \(step)/1000  loss 1.5000\u{1B}[K" }
    #expect(
      text == draw(1) + draw(3)
        + "\r\u{1B}[Kstep 3: evaluation loss 1.2500, exact_match 0.8750, 2048 tokens in 0:05\n"
        + "  0% 3/1000  loss 1.5000" + draw(3) + "\n")
  }

  @Test("a file gets plain lines at the logging steps only")
  func plain() throws {
    let text = try output(isTerminal: false) { status in
      let bar = ProgressBar(on: status)
      for step in 1...3 { bar.step(Example.step(step)) }
      bar.record(Example.step(3))
      bar.finish()
    }
    #expect(
      text == "step 3/1000 (0%): loss 1.5000, learning rate 2.00e-04, 512 tokens/s, 2.8 GB, 1:12:01 left\n")
  }

  @Test("log messages name the level of warnings and errors, in colour only where it is allowed")
  func logMessages() throws {
    func log(usesColor: Bool) throws -> String {
      try output(isTerminal: true, usesColor: usesColor) { status in
        var logger = Logger(label: "test") { _ in StatusLineLogHandler(on: status) }
        logger[metadataKey: "step"] = "7"
        logger.debug("hidden")
        logger.info("saved", metadata: ["path": "a"])
        logger.warning("odd")
      }
    }
    #expect(try log(usesColor: false) == "saved [path=a step=7]\nwarning: odd [step=7]\n")
    #expect(try log(usesColor: true) == "saved [path=a step=7]\n\u{1B}[33mwarning: \u{1B}[0modd [step=7]\n")
  }

  @Test("durations read as clocks")
  func durations() {
    #expect(
      [0, 59.6, 61, 3723, .infinity, -3].map(ProgressBar.duration) == [
        "0:00", "1:00", "1:01", "1:02:03", "?", "0:00",
      ])
  }
}
