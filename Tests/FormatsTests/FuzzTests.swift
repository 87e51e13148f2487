import Formats
import Foundation
import TestSupport
import Testing

/// Damaged files must give an error or a checkpoint whose tensors can be read, never a trap, and in time.
@Suite struct FuzzTests {
  private static let files = [
    "types.safetensors", "types.gguf", "state.bin", "state.legacy.bin", "nested.pt",
  ]

  /// Opens and reads everything. Errors are as good as success; what counts is that this returns.
  private func exercise(_ url: URL) {
    do {
      let reader = try Checkpoint.open(url)
      for name in reader.tensorNames.prefix(200) {
        do {
          let tensor = try reader.storedTensor(name)
          #expect(tensor.elementCount >= 0)
          if tensor.isDecodable, tensor.elementCount <= 1 << 20 { _ = try tensor.floats() }
        } catch { #expect(error is FormatError, "\(error)") }
      }
      if let gguf = reader as? GGUFFile { _ = try gguf.vocabulary() }
    } catch { #expect(error is FormatError, "\(error)") }
  }

  private func run(_ name: String, _ variants: (Data, (Data) throws -> Void) throws -> Void) throws {
    let original = try Data(contentsOf: fixture(name))
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent(name)
      let start = ContinuousClock.now
      var count = 0
      try variants(original) { bytes in
        try bytes.write(to: url)
        exercise(url)
        count += 1
      }
      let elapsed = ContinuousClock.now - start
      #expect(elapsed < .seconds(120), "\(count) variants of \(name) took \(elapsed)")
    }
  }

  @Test("a file cut short anywhere in its header or at its end is an error", arguments: files)
  func truncation(name: String) throws {
    try run(name) { original, check in
      let step = max(1, original.count / 400)
      var lengths = Set(0..<min(original.count, 300))
      lengths.formUnion(stride(from: 0, to: original.count, by: step))
      lengths.formUnion((original.count - 100)..<original.count)
      for length in lengths.sorted() { try check(original.prefix(length)) }
    }
  }

  @Test("flipped, extreme and swapped bytes in the headers never trap", arguments: files)
  func corruption(name: String) throws {
    var random = SeededGenerator(42)
    try run(name) { original, check in
      // Headers are in front, but for ZIP archives, whose directory is at the end.
      let front = min(original.count, 3000)
      let back = max(0, original.count - 2000)
      for round in 0..<1500 {
        var bytes = original
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let place =
            Bool.random(using: &random)
            ? Int.random(in: 0..<front, using: &random)
            : Int.random(in: back..<original.count, using: &random)
          switch round % 4 {
          case 0: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
          case 1: bytes[place] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random) ?? 0
          case 2: bytes[place] = .random(in: .min ... .max, using: &random)
          default:
            for offset in 0..<8 where place + offset < bytes.count { bytes[place + offset] = 0xFF }
          }
        }
        try check(bytes)
      }
    }
  }
}
