import Formats
import Foundation
import TestSupport
import Testing

@Suite struct ShardTests {
  private func tensor(_ name: String, _ count: Int) -> TensorToWrite {
    TensorToWrite(name: name, dtype: .uint8, shape: [count]) { consume in
      try Array(repeating: UInt8(7), count: count).withUnsafeBytes(consume)
    }
  }

  @Test(
    "sizes are read as transformers writes them",
    arguments: [
      ("5GB", 5_000_000_000), ("50GB", 50_000_000_000), ("500MB", 500_000_000), ("1.5 KB", 1500),
      ("2GiB", 2_147_483_648),
      ("10KiB", 10_240), ("77", 77), ("1TB", 1_000_000_000_000),
    ])
  func sizes(text: String, bytes: Int) {
    #expect(ShardSize(text)?.byteCount == bytes)
  }

  @Test(
    "what is not a size is none",
    arguments: ["", "GB", "5XB", "-5GB", "0", "1e5", "99999999999TB", "1.2.3GB"])
  func notSizes(text: String) {
    #expect(ShardSize(text) == nil)
  }

  @Test("tensors are divided in order, as transformers divides them, and the index says where they are")
  func division() throws {
    try withTemporaryFolder { folder in
      let files = try Safetensors.writeSharded(
        [tensor("a", 60), tensor("b", 30), tensor("c", 20), tensor("d", 500), tensor("e", 100)], to: folder,
        maximumShardSize: ShardSize(byteCount: 100))
      #expect(
        files.map(\.lastPathComponent) == [
          "model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors",
          "model-00003-of-00004.safetensors",
          "model-00004-of-00004.safetensors", "model.safetensors.index.json",
        ])
      let index = try String(contentsOf: files[4], encoding: .utf8)
      #expect(
        index == """
          {
            "metadata": {
              "total_parameters": 710,
              "total_size": 710
            },
            "weight_map": {
              "a": "model-00001-of-00004.safetensors",
              "b": "model-00001-of-00004.safetensors",
              "c": "model-00002-of-00004.safetensors",
              "d": "model-00003-of-00004.safetensors",
              "e": "model-00004-of-00004.safetensors"
            }
          }

          """)
      let reader = try Checkpoint.open(folder)
      #expect(reader.tensorNames == ["a", "b", "c", "d", "e"])
      #expect(reader.metadata == ["format": "pt"])
      #expect(try reader.storedTensor("d").bytes.count == 500)

      // Saving fewer, larger shards over it leaves nothing of the old ones.
      try Data().write(to: folder.appendingPathComponent("config.json"))
      try Safetensors.writeSharded([tensor("a", 60)], to: folder)
      #expect(try listing(folder) == ["config.json", "model.safetensors"])
      try Safetensors.writeSharded(
        [tensor("a", 60), tensor("b", 60)], to: folder, maximumShardSize: ShardSize(byteCount: 100))
      #expect(
        try listing(folder) == [
          "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
          "model.safetensors.index.json",
        ])
    }
  }

  @Test("an index that lies is refused with the file and the tensor")
  func lyingIndex() throws {
    try withTemporaryFolder { folder in
      try Safetensors.writeSharded(
        [tensor("a", 60), tensor("b", 60)], to: folder, maximumShardSize: ShardSize(byteCount: 100))
      let index = folder.appendingPathComponent("model.safetensors.index.json")
      let first = "model-00001-of-00002.safetensors"
      func open(_ map: String) throws {
        try Data("{\"weight_map\": \(map)}".utf8).write(to: index)
        _ = try Checkpoint.open(folder)
      }
      try open("{\"a\": \"\(first)\"}")
      expectFormatError(.malformed, "`b`", first, "nor in any other") { try open("{\"b\": \"\(first)\"}") }
      expectFormatError(.malformed, "`b`", "but in `model-00002") {
        try open("{\"b\": \"\(first)\", \"a\": \"\(first)\", \"x\": \"model-00002-of-00002.safetensors\"}")
      }
      expectFormatError(.notFound, "`gone.safetensors`", "`a`") { try open("{\"a\": \"gone.safetensors\"}") }
      for path in ["../x.safetensors", "/etc/passwd", "..", "", "a/b.safetensors", "a\\\\b"] {
        expectFormatError(.unsafe, "`a`") { try open("{\"a\": \"\(path)\"}") }
      }
      expectFormatError(.malformed, "weight_map") { try open("[]") }
      expectFormatError(.malformed, "`a`") { try open("{\"a\": 5}") }
      expectFormatError(.malformed, "empty") { try open("{}") }
      expectFormatError(.malformed, "another index") { try open("{\"a\": \"model.safetensors.index.json\"}") }
    }
  }

  @Test("a folder without weights, or with two GGUF files, says so")
  func folders() throws {
    try withTemporaryFolder { folder in
      expectFormatError(.notFound, "model.safetensors") { _ = try Checkpoint.open(folder) }
      for name in ["a.gguf", "b.gguf"] {
        try FileManager.default.copyItem(at: fixture("types.gguf"), to: folder.appendingPathComponent(name))
      }
      expectFormatError(.mismatch, "2 GGUF") { _ = try Checkpoint.open(folder) }
      try FileManager.default.removeItem(at: folder.appendingPathComponent("b.gguf"))
      #expect(try Checkpoint.open(folder) is GGUFFile)
    }
  }

  @Test("a failure in the middle leaves the old weights and no temporary files")
  func failure() throws {
    struct Interruption: Error {}
    try withTemporaryFolder { folder in
      try Safetensors.writeSharded(
        [tensor("a", 60), tensor("b", 60)], to: folder, maximumShardSize: ShardSize(byteCount: 100))
      let before = try listing(folder)
      let broken = TensorToWrite(name: "c", dtype: .uint8, shape: [60]) { _ in throw Interruption() }
      #expect(throws: Interruption.self) {
        try Safetensors.writeSharded(
          [tensor("a", 60), tensor("b", 60), broken], to: folder, maximumShardSize: ShardSize(byteCount: 100))
      }
      #expect(try listing(folder) == before)
      let short = TensorToWrite(name: "c", dtype: .uint8, shape: [60]) { _ in }
      expectFormatError(.mismatch, "`c`", "0 bytes instead of 60") {
        try Safetensors.writeSharded([short], to: folder)
      }
      expectFormatError(.mismatch, "`a`") {
        try Safetensors.writeSharded([tensor("a", 1), tensor("a", 1)], to: folder)
      }
      #expect(try listing(folder) == before)
      #expect(try Checkpoint.open(folder).tensorNames == ["a", "b"])
    }
  }
}
