import Foundation

/// The `graft` program that was built beside the tests.
public enum Program {
  public static let url: URL = {
    // macOS: the bundle that holds this code. Linux: the tests are the program that runs.
    let bundle = Bundle.allBundles.first { $0.bundlePath.hasSuffix(".xctest") }?.bundleURL
    let tests = bundle ?? URL(filePath: CommandLine.arguments[0]).resolvingSymlinksInPath()
    return tests.deletingLastPathComponent().appending(path: "graft")
  }()

  /// How a run ended, and what it printed.
  public struct Outcome {
    public var code: Int32
    public var output: String
    public var messages: String
  }

  /// Runs the program to its end, without standard input.
  public static func run(_ arguments: [String], in folder: URL? = nil) throws -> Outcome {
    let process = Process()
    process.executableURL = url
    process.arguments = arguments
    process.currentDirectoryURL = folder
    let (output, messages) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = messages
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let result = try output.fileHandleForReading.readToEnd() ?? Data()
    let errors = try messages.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Outcome(
      code: process.terminationStatus, output: String(decoding: result, as: UTF8.self),
      messages: String(decoding: errors, as: UTF8.self))
  }
}
