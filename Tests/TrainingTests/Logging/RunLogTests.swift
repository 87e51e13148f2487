import Foundation
import Testing
import Training

@Suite("Log of a run")
struct RunLogTests {
  private func arguments(_ folder: TemporaryFolder, _ targets: [ReportTarget] = [.all]) -> TrainingArguments {
    var arguments = TrainingArguments()
    arguments.outputDir = folder.path("run")
    arguments.reportTo = targets
    return arguments
  }

  @Test(
    "report_to chooses the files",
    arguments: [[ReportTarget.all], [.none], [.jsonl], [.plot], [.tensorboard, .plot]])
  func targets(_ targets: [ReportTarget]) throws {
    let folder = try TemporaryFolder()
    let log = try RunLog(arguments(folder, targets), configuration: "a: 1", resumedStep: nil, status: nil)
    try log.record(Example.step(10))
    try log.record(Example.evaluation(10))
    try log.finish()
    let all = targets == [.all]
    for (target, name) in [
      (ReportTarget.jsonl, "metrics.jsonl"), (.plot, "loss.svg"), (.tensorboard, "runs"),
    ] {
      let exists = FileManager.default.fileExists(atPath: folder.path("run/\(name)"))
      #expect(exists == (all || targets.contains(target)), "\(name)")
    }
  }

  @Test("a resumed run's plot has the points from before, without those after the checkpoint")
  func resumed() throws {
    let folder = try TemporaryFolder()
    let log = try RunLog(arguments(folder), configuration: nil, resumedStep: nil, status: nil)
    for step in [10, 20, 30] { try log.record(Example.evaluation(step)) }
    try log.finish()
    let resumed = try RunLog(arguments(folder), configuration: nil, resumedStep: 20, status: nil)
    try resumed.record(Example.evaluation(40))
    let steps = try folder.text("run/loss.svg").matches(of: #/<title>step (\d+)/#).compactMap { Int($0.1) }
    #expect(steps == [10, 20, 40])
  }

  @Test("peak memory is what a running process can have")
  func memory() {
    #expect((1 << 20..<1 << 42).contains(ProcessMemory.peak))
  }
}
