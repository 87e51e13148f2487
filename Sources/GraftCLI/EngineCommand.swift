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
    var cudaDevices = 0
    /// Why CUDA is not to be had; nil when it is.
    var cudaProblem: String?
    var devices = ["cpu"]
    var buildConfiguration: String?

    enum CodingKeys: String, CodingKey {
      case loadedVersion = "loaded_version"
      case compiledVersion = "compiled_version"
      case cpuCapability = "cpu_capability"
      case threads
      case cudaDevices = "cuda_devices"
      case cudaProblem = "cuda_problem"
      case devices
      case buildConfiguration = "build_configuration"
    }
  }

  func run() async throws {
    var report = Report(buildConfiguration: verbose ? Engine.buildConfiguration : nil)
    do {
      // Without a GPU or its driver there is nothing to count, which is no failure of this command.
      try Engine.prepare(.cuda)
      report.cudaDevices = Engine.cudaDeviceCount
      report.devices += (0..<report.cudaDevices).map { "cuda:\($0)" }
    } catch {
      report.cudaProblem = ErrorReport.paragraph(error)
    }
    if json {
      try Console.result(report)
    } else {
      try Console.result(
        """
        libtorch      \(report.loadedVersion) (graft was compiled against \(report.compiledVersion))
        processor     \(report.cpuCapability), \(report.threads) threads
        devices       \(report.devices.joined(separator: ", "))
        CUDA          \(report.cudaProblem ?? "\(report.cudaDevices) device(s)")
        another one   `make engine` fetches the pinned libtorch; GRAFT_TORCH=FOLDER names an installed PyTorch
        """)
      if let details = report.buildConfiguration { try Console.result("\n" + details) }
    }
    // The versions must agree; whoever scripts this command learns it from the exit code.
    try Engine.prepare()
  }
}
