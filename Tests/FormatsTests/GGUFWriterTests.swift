import Formats
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct GGUFWriterTests {
  private func withFile(_ body: (URL) throws -> Void) throws {
    try withTemporaryFolder { try body($0.appendingPathComponent("written.gguf")) }
  }

  @Test("tensors and metadata of every type come back as they were written")
  func roundTrip() throws {
    // Every value of the file that the gguf package wrote.
    let original = try GGUFFile(fixture("types.gguf"))
    let metadata = original.values.keys.filter { $0 != "general.alignment" }.map {
      ($0, original.values[$0]!)
    }
    let tensors: [(name: String, tensor: Tensor)] = [
      ("matrix", try Tensor((0..<15).map(Float.init), shape: [3, 5])),
      ("half", try Tensor([1.5, -2, 65504] as [Float]).to(.float16)),
      ("brain", try Tensor([1.5, -2, 1e30] as [Float]).to(.bfloat16)),
      ("wide", try Tensor([1, 2, 3, 4] as [Float], shape: [1, 2, 1, 2]).to(.float64)),
      ("counts", try Tensor([1, -2, 1 << 40] as [Int64])), ("none", try .zeros([0, 4])),
    ]
    try withFile { url in
      try GGUF.write(tensors, metadata: metadata, to: url)
      let file = try GGUFFile(url)
      #expect(file.version == 3)
      #expect(file.values.keys == metadata.map(\.0))
      for (key, value) in metadata { #expect(file.values[key] == value, "\(key)") }
      #expect(file.tensorNames == tensors.map(\.name))
      for (name, tensor) in tensors {
        let found = try file.tensor(name)
        #expect(found.shape == tensor.shape && found.dtype == tensor.dtype, "\(name)")
        #expect(try found.doubles() == tensor.doubles(), "\(name)")
      }
    }
  }

  @Test("a view is written as its elements lie in the view")
  func views() throws {
    let view = try Tensor((0..<12).map(Float.init), shape: [3, 4]).transposed(0, 1)
    try withFile { url in
      try GGUF.write([("view", view)], metadata: [], to: url)
      let found = try GGUFFile(url).tensor("view")
      #expect(found.shape == [4, 3])
      #expect(try found.floats() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    }
  }

  @Test("what the format has no place for is refused, and the file that was there stays")
  func refusals() throws {
    let one = try Tensor([1] as [Float])
    try withFile { url in
      try Data("before".utf8).write(to: url)
      expectFormatError(.mismatch, "`w`", "twice") {
        try GGUF.write([("w", one), ("w", one)], metadata: [], to: url)
      }
      expectFormatError(.mismatch, "`k`", "twice") {
        try GGUF.write([], metadata: [("k", .bool(true)), ("k", .bool(false))], to: url)
      }
      expectFormatError(.unsupported, "uint8") {
        try GGUF.write([("w", one.to(.uint8))], metadata: [], to: url)
      }
      expectFormatError(.unsupported, "5 dimensions") {
        try GGUF.write([("w", one.reshaped([1, 1, 1, 1, 1]))], metadata: [], to: url)
      }
      expectFormatError(.unsupported, "64 bytes") {
        try GGUF.write([(String(repeating: "n", count: 64), one)], metadata: [], to: url)
      }
      #expect(try Data(contentsOf: url) == Data("before".utf8))
    }
  }
}
