import ArgumentParser
import Torch

/// `graft engine`: which libtorch is in use.
struct EngineCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "engine",
    abstract: "Show which libtorch is in use, its devices and threads.",
    discussion: """
      The engine is libtorch. `make engine` unpacks the pinned one into .torch/; GRAFT_TORCH names another PyTorch.

      EXAMPLE
        graft engine --json
      """)

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(name: .shortAndLong, help: "Show how the library was built, too.")
  var verbose = false

  private struct Report: Encodable {
    var loadedVersion = Engine.loadedVersion
    var compiledVersion = Engine.compiledVersion
    var cpuCapability = Engine.cpuCapability
    var threads = Engine.threadCount
    var cudaDevices: Int
    var buildConfiguration: String?

    enum CodingKeys: String, CodingKey {
      case loadedVersion = "loaded_version"
      case compiledVersion = "compiled_version"
      case cpuCapability = "cpu_capability"
      case threads
      case cudaDevices = "cuda_devices"
      case buildConfiguration = "build_configuration"
    }
  }

  func run() async throws {
    // Without a GPU or its driver there is nothing to count, which is no failure of this command.
    let hasCUDA = (try? Engine.prepare(.cuda)) != nil
    let report = Report(
      cudaDevices: hasCUDA ? Engine.cudaDeviceCount : 0,
      buildConfiguration: verbose ? Engine.buildConfiguration : nil)
    if json { return try Console.result(report) }
    try Console.result(
      "libtorch      \(report.loadedVersion) (graft was compiled against \(report.compiledVersion))")
    try Console.result("processor     \(report.cpuCapability), \(report.threads) threads")
    try Console.result("CUDA devices  \(report.cudaDevices)")
    if let details = report.buildConfiguration { try Console.result("\n" + details) }
    try Engine.prepare()
  }
}
