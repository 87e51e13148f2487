import Formats
import Foundation
import TestSupport
import Testing

@Suite struct TorchCheckpointTests {
  @Test(
    "torch.save's files read as PyTorch reads them: views, shared storages, parameters, every type",
    arguments: [
      ("state.bin", "state.bin"), ("state.protocol4.bin", "state.bin"),
      ("state.legacy.bin", "state.legacy.bin"),
    ])
  func states(name: String, expected: String) throws {
    let checkpoint = try Checkpoint.open(fixture(name))
    #expect(checkpoint is TorchCheckpoint)
    let reference = try SafetensorsFile(fixture("\(expected).expected.safetensors"))
    #expect(Set(checkpoint.tensorNames) == Set(reference.tensorNames))
    try expectEqual(checkpoint, reference)
    #expect(try checkpoint.storedTensor("bf16").type == .dense(.bfloat16))
    #expect(try checkpoint.tensor("transposed").shape == [8, 6])
  }

  @Test("nested checkpoints are flattened, numbers and strings become metadata")
  func nested() throws {
    let checkpoint = try TorchCheckpoint(fixture("nested.pt"))
    #expect(checkpoint.tensorNames == ["model.a", "list.0"])
    #expect(checkpoint.metadata["step"] == "12")
    #expect(checkpoint.metadata["lr"] == "0.5")
    #expect(checkpoint.metadata["note"] == "hi")
  }

  @Test(
    "a pickle that calls something is refused by name, and nothing is run",
    arguments: ["code.pt", "code.legacy.pt"])
  func code(name: String) {
    expectFormatError(.unsafe, "posix.system", "not run") { _ = try TorchCheckpoint(fixture(name)) }
    #expect(!FileManager.default.fileExists(atPath: "/tmp/graft-unpickled-code"))
  }

  // MARK: Hostile pickles

  /// A checkpoint in the older format, whose object is this pickle.
  private func open(_ object: [UInt8]) throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("hostile.bin")
      let magic: [UInt8] = [
        0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E,
      ]
      let version: [UInt8] = [0x80, 2, 0x4D, 0xE9, 3, 0x2E]
      let system: [UInt8] = [0x80, 2, 0x7D, 0x2E]
      let keys: [UInt8] = [0x80, 2, 0x5D, 0x2E]
      try Data(magic + version + system + [0x80, 2] + object + keys).write(to: url)
      _ = try TorchCheckpoint(url)
    }
  }

  private let end = UInt8(ascii: ".")

  @Test("nesting beyond all measure neither overflows the stack nor passes")
  func nesting() {
    let depth = 300_000
    expectFormatError(.malformed, "deep") {
      // ] ] ] … a a a: lists in lists.
      try open(Array(repeating: 0x5D, count: depth) + Array(repeating: 0x61, count: depth - 1) + [end])
    }
    // Tuples of tuples.
    expectFormatError(.malformed, "deep") { try open([0x29] + Array(repeating: 0x85, count: depth) + [end]) }
    // A list that contains itself: ] q0 h0 a.
    expectFormatError(.malformed, "deep") { try open([0x5D, 0x71, 0, 0x68, 0, 0x61, end]) }
    // Lists that hold the one before them ten times over.
    var bomb: [UInt8] = [0x5D, 0x71, 0]
    for level in UInt8(1)...30 {
      bomb +=
        [0x5D, 0x28] + Array(repeating: [0x68, level - 1], count: 10).flatMap { $0 } + [0x65, 0x71, level]
    }
    expectFormatError(.malformed, "holds more than") { try open(bomb + [end]) }
  }

  @Test(
    "broken pickles are errors",
    arguments: [
      [], [0x2E], [0x61, 0x2E], [0x28, 0x2E], [0x65, 0x2E], [0x30, 0x2E], [0x52, 0x2E], [0x68, 9, 0x2E],
      [0x58, 255, 255, 255, 255],
      [0x8E, 255, 255, 255, 255, 255, 255, 255, 127], [0x7D, 0x4E, 0x73, 0x2E], [0x4E, 0x51, 0x2E],
      [0x4B, 1, 0x2E],
      [0x8C, 1, 0xFF, 0x2E], [0x8B, 255, 255, 255, 255, 0x2E], [0x4E, 0x4E, 0x52, 0x2E], [0x4E, 0x62, 0x2E],
    ] as [[UInt8]])
  func broken(pickle: [UInt8]) {
    #expect(throws: FormatError.self) { try open(pickle) }
  }

  @Test(
    "opcodes that make objects are refused by number",
    arguments: [UInt8(ascii: "i"), UInt8(ascii: "o"), 0x92, UInt8(ascii: "P"), 0x82])
  func opcodes(opcode: UInt8) {
    expectFormatError(.unsafe, "0x\(String(opcode, radix: 16))") { try open([opcode, end]) }
  }

  @Test("archives that are compressed or are not checkpoints say so")
  func archives() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("x.bin")
      var bytes = try Data(contentsOf: fixture("nested.pt"))
      // The method of the first entry in the directory: 8 is "deflated".
      let directory = try #require(bytes.range(of: Data([0x50, 0x4B, 1, 2])))
      bytes[directory.lowerBound + 10] = 8
      try bytes.write(to: url)
      expectFormatError(.unsupported, "compressed") { _ = try TorchCheckpoint(url) }
      try Data("hello, this is a text".utf8).write(to: url)
      expectFormatError(.unsupported, "neither") { _ = try Checkpoint.open(url) }
    }
  }
}
