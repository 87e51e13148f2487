import Foundation
import JSON
import Testing
import Training

/// Reports with values that tests can tell apart.
enum Example {
  static func step(_ step: Int, loss: Double = 1.5) -> StepReport {
    StepReport(
      step: step, totalSteps: 1000, epoch: 0.5, loss: loss, learningRate: 2e-4, gradientNorm: 0.75,
      tokens: 4096,
      supervised: 1024, tokensPerSecond: 512.5, seconds: 8, secondsLeft: 4321, memory: 3_000_000_000)
  }

  static func evaluation(_ step: Int, loss: Double = 1.25) -> EvaluationReport {
    EvaluationReport(
      step: step, epoch: 0.5, loss: loss, supervised: 2048, seconds: 4.5,
      metrics: ["exact_match": 0.875])
  }
}

@Suite("metrics.jsonl")
struct MetricsFileTests {
  @Test("each record is one line, on the disk when the call returns")
  func lines() throws {
    let folder = try TemporaryFolder()
    let file = try MetricsFile(path: folder.path("run/metrics.jsonl"), resumedStep: nil)
    try file.record(Example.step(10))
    #expect(try folder.text("run/metrics.jsonl").split(separator: "\n").count == 1)
    try file.record(Example.evaluation(10))
    let records = try MetricsFile.records(path: folder.path("run/metrics.jsonl"))
    #expect(records.count == 2)
    #expect(records[0]["step"] == 10)
    #expect(records[0]["loss"]?.doubleValue == 1.5)
    #expect(records[0]["memory_bytes"] == 3_000_000_000)
    #expect(records[1]["eval_loss"]?.doubleValue == 1.25)
    #expect(records[1]["eval_exact_match"]?.doubleValue == 0.875)
    #expect(records[1]["loss"] == nil)
  }

  @Test("values that are not finite are null, so that every line is JSON")
  func notFinite() throws {
    let folder = try TemporaryFolder()
    let file = try MetricsFile(path: folder.path("m.jsonl"), resumedStep: nil)
    try file.record(Example.step(1, loss: .infinity))
    #expect(try MetricsFile.records(path: folder.path("m.jsonl")).first?["loss"] == .null)
  }

  @Test("resuming cuts off later steps and a torn line, and goes on")
  func resuming() throws {
    let folder = try TemporaryFolder()
    let path = folder.path("metrics.jsonl")
    let file = try MetricsFile(path: path, resumedStep: nil)
    for step in [10, 20, 30] { try file.record(Example.step(step)) }
    try file.record(Example.evaluation(30))
    try file.record(Example.step(40))
    let kept =
      try folder.text("metrics.jsonl").split(separator: "\n").prefix(4).joined(separator: "\n") + "\n"
    try (try folder.text("metrics.jsonl") + #"{"step": 50, "lo"#).write(
      toFile: path, atomically: false, encoding: .utf8)

    let resumed = try MetricsFile(path: path, resumedStep: 30)
    #expect(try folder.text("metrics.jsonl") == kept)
    try resumed.record(Example.step(40, loss: 0.5))
    let records = try MetricsFile.records(path: path)
    #expect(records.compactMap { $0["step"]?.intValue } == [10, 20, 30, 30, 40])
    #expect(records.last?["loss"]?.doubleValue == 0.5)
  }

  @Test("a torn last line is cut off even if it happens to be complete JSON")
  func tornNewline() throws {
    let folder = try TemporaryFolder()
    try "{\"step\": 1}\n{\"step\": 2}".write(
      toFile: folder.path("m.jsonl"), atomically: false, encoding: .utf8)
    _ = try MetricsFile(path: folder.path("m.jsonl"), resumedStep: 5)
    #expect(try folder.text("m.jsonl") == "{\"step\": 1}\n")
  }

  @Test("a new run keeps the metrics of an earlier one under a number")
  func earlierRun() throws {
    let folder = try TemporaryFolder()
    for step in [1, 2, 3] {
      try MetricsFile(path: folder.path("m.jsonl"), resumedStep: nil).record(Example.step(step))
    }
    let steps = try ["m.jsonl.1", "m.jsonl.2", "m.jsonl"].map {
      try MetricsFile.records(path: folder.path($0)).first?["step"]?.intValue
    }
    #expect(steps == [1, 2, 3])
  }

  @Test("a folder that cannot be made is an error with a remedy")
  func unwritable() throws {
    let folder = try TemporaryFolder()
    try "".write(toFile: folder.path("file"), atomically: false, encoding: .utf8)
    let error = #expect(throws: LoggingError.self) {
      _ = try MetricsFile(path: folder.path("file/metrics.jsonl"), resumedStep: nil)
    }
    #expect(error?.description.contains("check that the folder may be written to") == true)
    #expect(throws: LoggingError.self) { _ = try MetricsFile.records(path: folder.path("missing")) }
  }

  @Test(
    "a full disk is an error", .enabled(if: FileManager.default.fileExists(atPath: "/dev/full")))
  func fullDisk() throws {
    let folder = try TemporaryFolder()
    try FileManager.default.createSymbolicLink(
      atPath: folder.path("m.jsonl"), withDestinationPath: "/dev/full")
    let error = #expect(throws: LoggingError.self) {
      // A resumed run opens the file that is there.
      try TensorBoardFile(path: folder.path("m.jsonl"), resumedStep: nil, configuration: nil, now: { 0 })
        .record(Example.step(1))
    }
    #expect(error?.problem.contains("m.jsonl cannot be written") == true)
  }
}
