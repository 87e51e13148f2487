import Foundation
import Testing
import Training

@Suite("TensorBoard event files")
struct TensorBoardFileTests {
  @Test("the bytes are those that TensorBoard's own classes write")
  func bytesEqualTensorBoard() throws {
    let folder = try TemporaryFolder()
    let file = try TensorBoardFile(
      path: folder.path("events"), resumedStep: 300,
      configuration: "learning_rate: 2.0e-04\nsystem_prompt: 你好", now: { 1_700_000_000.25 })
    try file.record(Example.step(310))
    try file.record(Example.evaluation(310))
    let expected = try Data(contentsOf: Fixture.directory.appending(path: "run.tfevents"))
    #expect(try Data(contentsOf: folder.url.appending(path: "events")) == expected)
  }

  @Test("every process writes a file of its own, named as TensorBoard wants it")
  func fileNames() throws {
    let folder = try TemporaryFolder()
    for _ in 0..<2 {
      try TensorBoardFile(folder: folder.path("runs"), resumedStep: nil, configuration: nil).record(
        Example.step(1))
    }
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path("runs"))
    #expect(names.count == 2)
    #expect(names.allSatisfy { $0.hasPrefix("events.out.tfevents.") })
  }
}
