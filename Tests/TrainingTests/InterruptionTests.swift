import Foundation
import Testing
import Training

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite("Interruption", .serialized)
struct InterruptionTests {
  @Test("the first signal asks for the end and leaves the process running", arguments: [SIGINT, SIGTERM])
  func firstSignal(number: Int32) async throws {
    Interruption.install()
    defer { Interruption.uninstall() }
    #expect(!Interruption.isRequested)
    // To the process, not to this thread: threads of the pool block signals, as they do under Ctrl-C.
    kill(getpid(), number)
    for _ in 0..<500 where !Interruption.isRequested { try await Task.sleep(for: .milliseconds(10)) }
    #expect(Interruption.isRequested)
    #expect(Interruption.exitCode == 128 + number)
    Interruption.install()
    #expect(!Interruption.isRequested)
  }
}
