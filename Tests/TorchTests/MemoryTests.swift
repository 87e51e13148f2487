import Foundation
import Testing
import Torch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite("Memory of buffers", .serialized)
struct MemoryTests {
  #if os(Linux)
    @Test("freed buffers of ragged batches never hold more than the largest batch needed, and a quarter")
    func raggedBatches() throws {
      try Engine.prepare()
      Engine.releaseFreedMemory()
      let before = residentMemory()
      // As layers leave them: a dozen tensors of a few widths for each token, freed from the last to the first.
      let widths = [2_304, 1_152, 6_144, 3_072, 4_608, 576]
      var state: UInt64 = 5
      var mostAlive = 0
      var mostResident = 0
      for _ in 0..<80 {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        let tokens = 200 + Int(state >> 33) % 825
        var alive: [Tensor] = []
        for layer in 0..<4 {
          for width in widths {
            alive.append(try Tensor.zeros([tokens, width + layer], dtype: .uint8))
          }
        }
        mostAlive = max(mostAlive, alive.reduce(0) { $0 + $1.shape.reduce(1, *) })
        mostResident = max(mostResident, residentMemory() - before)
        while !alive.isEmpty { alive.removeLast() }
      }
      #expect(mostAlive > 50 << 20)
      #expect(
        mostResident < mostAlive + mostAlive / 4,
        "\(mostResident >> 20) MB held, \(mostAlive >> 20) MB needed")
      Engine.releaseFreedMemory()
      #expect(residentMemory() - before < mostAlive / 4)
    }

    @Test("what the engine keeps of the shapes that it has multiplied does not grow with their number")
    func ragged() async {
      await #expect(processExitsWith: .success) {
        try Engine.prepare()
        let weight = try Tensor.zeros([128, 64], dtype: .bfloat16)
        func multiply(_ shapes: Range<Int>) throws {
          for tokens in shapes {
            _ = try Tensor.zeros([tokens, 64], dtype: .bfloat16).matmul(weight.transposed())
          }
        }
        try multiply(64..<320)
        let before = residentMemory()
        try multiply(320..<1600)
        // With the defaults of oneDNN and the engine these shapes keep 70 MB, here 2.
        guard residentMemory() - before < 16 << 20 else { exit(Int32((residentMemory() - before) >> 20)) }
      }
    }

  #endif
}

#if os(Linux)
  /// Bytes of this process in memory now.
  private func residentMemory() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    return (Int(text.split(separator: " ").dropFirst().first ?? "") ?? 0)
      * Int(sysconf(Int32(_SC_PAGESIZE)))
  }
#endif
