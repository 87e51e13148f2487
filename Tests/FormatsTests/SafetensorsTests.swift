import Formats
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct SafetensorsTests {
  @Test("a tensor that needs no conversion lies over the file, and writing to it leaves the file as it was")
  func mapping() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("a.safetensors")
      try Safetensors.write([TensorToWrite(name: "w", tensor: Tensor([1, 2, 3] as [Float]))], to: url)
      let before = try Data(contentsOf: url)
      var reader: SafetensorsFile? = try SafetensorsFile(url)
      let first = try #require(try reader?.tensor("w"))
      let second = try #require(try reader?.tensor("w"))
      reader = nil
      #expect(first.hostPointer == second.hostPointer)
      try first.fillInPlace(5)
      #expect(try second.floats() == [5, 5, 5])
      #expect(try Data(contentsOf: url) == before)
      #expect(try SafetensorsFile(url).tensor("w").floats() == [1, 2, 3])
    }
  }

  #if os(Linux)
    @Test("pages of a tensor that are given back leave memory, are read again, and take no neighbour's along")
    func givingPagesBack() throws {
      try withTemporaryFolder { folder in
        let url = folder.appendingPathComponent("a.safetensors")
        let count = 1 << 20
        let tensors = try ["a", "b", "c"].map {
          try TensorToWrite(name: $0, tensor: Tensor.full([count], 3))
        }
        try Safetensors.write(tensors, to: url)
        let reader = try SafetensorsFile(url)
        let (middle, last) = try (reader.tensor("b"), reader.tensor("c"))
        try last.fillInPlace(7)
        #expect(try middle.sum().item() == 3 * Double(count))
        let before = try residentBytes(of: url)
        #expect(before >= 8 * count)
        try reader.storedTensor("b").bytes.releasePages()
        // But for the two pages that it shares with its neighbours.
        #expect(try residentBytes(of: url) <= before - 4 * count + 2 * 65_536)
        #expect(try middle.sum().item() == 3 * Double(count))
        #expect(try last.sum().item() == 7 * Double(count))
      }
    }

    /// Bytes of this process's mappings of a file that are in memory.
    private func residentBytes(of url: URL) throws -> Int {
      // In pieces: the system gives this file one page at a time, and says that its size is 0.
      let file = try #require(FileHandle(forReadingAtPath: "/proc/self/smaps"))
      let data = try file.readToEnd() ?? Data()
      let lines = String(decoding: data, as: UTF8.self).split(separator: "\n")
      var total = 0
      var isOfFile = false
      for line in lines {
        let words = line.split(separator: " ")
        if words[0].contains("-") {
          isOfFile = line.hasSuffix(url.lastPathComponent) && line.contains(url.path)
        }
        if isOfFile, words[0] == "Rss:" { total += try #require(Int(words[1])) << 10 }
      }
      return total
    }
  #endif

  @Test("every type reads as the reference implementation reads it")
  func types() throws {
    let file = try SafetensorsFile(fixture("types.safetensors"))
    try expectEqual(file, SafetensorsFile(fixture("types.expected.safetensors")))
    #expect(file.metadata == ["format": "pt"])
    #expect(try file.storedTensor("scalar").shape == [])
    #expect(try file.storedTensor("empty").shape == [0, 4])
    for type in DType.allCases {
      #expect(try file.storedTensor("layers.\(type.rawValue).weight").type == .dense(type))
    }
  }

  @Test("types that the engine lacks keep their bytes and name themselves when computed with")
  func otherTypes() throws {
    let tensor = try SafetensorsFile(fixture("other_types.safetensors")).storedTensor("complex")
    #expect(tensor.type == .other(.complex64))
    #expect(tensor.bytes.count == 16)
    expectFormatError(.unsupported, "`complex`", "C64") { _ = try tensor.floats() }
    expectFormatError(.unsupported, "`complex`", "C64") { _ = try tensor.tensor() }
  }

  @Test("a file written again is byte for byte the reference implementation's")
  func rewriting() throws {
    for name in ["types.safetensors", "other_types.safetensors", "types.expected.safetensors"] {
      let file = try SafetensorsFile(fixture(name))
      try withTemporaryFolder { folder in
        let copy = folder.appendingPathComponent("copy.safetensors")
        let tensors = try file.tensorNames.map { try TensorToWrite(file.storedTensor($0)) }
        try Safetensors.write(tensors.shuffled(), metadata: file.metadata, to: copy)
        #expect(try Data(contentsOf: copy) == Data(contentsOf: fixture(name)))
        #expect(try listing(folder) == ["copy.safetensors"])
      }
    }
  }

  @Test("random tensors read back as they were written, in one file and in shards")
  func roundTrip() throws {
    var random = SeededGenerator(7)
    for round in 0..<40 {
      var contents: [String: (SafetensorsType, [Int], [UInt8])] = [:]
      for index in 0..<Int.random(in: 0...12, using: &random) {
        let type =
          SafetensorsType.allCases.filter { $0.bitCount >= 8 }.randomElement(using: &random) ?? .float32
        let shape = (0..<Int.random(in: 0...4, using: &random)).map { _ in
          Int.random(in: 0...5, using: &random)
        }
        let count = shape.reduce(type.bitCount / 8, *)
        let bytes = (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        contents["t\(index).\(round)\"é\n"] = (type, shape, bytes)
      }
      let tensors = contents.sorted { $0.key < $1.key }.map { name, value in
        TensorToWrite(name: name, type: value.0, shape: value.1) { consume in
          // In two pieces, as a writer may.
          try value.2.withUnsafeBytes { all in
            try consume(UnsafeRawBufferPointer(rebasing: all[..<(all.count / 2)]))
            try consume(UnsafeRawBufferPointer(rebasing: all[(all.count / 2)...]))
          }
        }
      }
      try withTemporaryFolder { folder in
        try Safetensors.writeSharded(tensors, to: folder, maximumShardSize: ShardSize(byteCount: 200))
        let reader = try Checkpoint.open(folder)
        #expect(Set(reader.tensorNames) == Set(contents.keys))
        for (name, value) in contents {
          let stored = try reader.storedTensor(name)
          #expect(stored.shape == value.1)
          #expect(stored.type.description == value.0.rawValue)
          #expect(stored.bytes.withUnsafeBytes { Array($0) } == value.2)
        }
      }
    }
  }

  @Test("tensors of the engine hold the stored numbers in every type")
  func tensors() throws {
    let file = try SafetensorsFile(fixture("types.safetensors"))
    for type in [DType.float32, .bfloat16, .float16, .int64, .bool] {
      let name = "layers.\(type.rawValue).weight"
      let tensor = try file.tensor(name)
      #expect(tensor.dtype == type)
      #expect(try file.tensor(name, dtype: .float32).floats().map(\.bitPattern).count == tensor.count)
    }
    let scalar = try file.tensor("scalar", dtype: .bfloat16)
    #expect(scalar.shape == [])
    #expect(try scalar.floats() == [2.5])
    #expect(try file.tensor("empty").shape == [0, 4])
  }

  @Test("a missing tensor is named with its nearest relatives")
  func missing() throws {
    let file = try SafetensorsFile(fixture("types.safetensors"))
    expectFormatError(.missing, "`model.layers.F32.weight`", "`layers.F32.weight`") {
      _ = try file.storedTensor("model.layers.F32.weight")
    }
  }

  // MARK: Hostile files

  /// A file of this header and as many zero bytes of data.
  private func open(_ header: String, data: Int = 0, length: UInt64? = nil) throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("hostile.safetensors")
      var bytes = withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { Data($0) }
      bytes.append(Data(header.utf8))
      bytes.append(Data(count: data))
      try bytes.write(to: url)
      _ = try SafetensorsFile(url)
    }
  }

  @Test("what the reference implementation refuses is refused, by tensor and reason")
  func refusals() {
    expectFormatError(.malformed, "hostile.safetensors", "100000000") { try open("{}", length: 100_000_001) }
    expectFormatError(.malformed, "claims 50 bytes") { try open("{}", length: 50) }
    expectFormatError(.malformed, "18446744073709551615") { try open("{}", length: .max) }
    expectFormatError(.malformed, "begin with `{`") { try open(" {}") }
    expectFormatError(.malformed, "not JSON") { try open("{") }
    expectFormatError(.malformed, "not JSON") { try open("{}x") }
    expectFormatError(.malformed, "`__metadata__`") { try open(#"{"__metadata__":{"a":1}}"#) }
    expectFormatError(.malformed, "2 bytes of data") { try open("{}", data: 2) }

    func one(_ entry: String, data: Int = 4) throws { try open("{\"w\":{\(entry)}}", data: data) }
    expectFormatError(.malformed, "`w`", "dtype") { try one(#""shape":[1],"data_offsets":[0,4]"#) }
    expectFormatError(.unsupported, "`w`", "`F99`") {
      try one(#""dtype":"F99","shape":[1],"data_offsets":[0,4]"#)
    }
    expectFormatError(.malformed, "`w`", "shape") {
      try one(#""dtype":"F32","shape":[-1],"data_offsets":[0,4]"#)
    }
    expectFormatError(.malformed, "`w`", "shape") {
      try one(#""dtype":"F32","shape":[1.0],"data_offsets":[0,4]"#)
    }
    expectFormatError(.malformed, "`w`", "offsets") {
      try one(#""dtype":"F32","shape":[1],"data_offsets":[0,4,8]"#)
    }
    expectFormatError(.malformed, "`w`", "before") {
      try one(#""dtype":"F32","shape":[1],"data_offsets":[4,0]"#)
    }
    expectFormatError(.malformed, "`w`", "needs 8 bytes") {
      try one(#""dtype":"F32","shape":[2],"data_offsets":[0,4]"#)
    }
    expectFormatError(.malformed, "`w`", "gap") {
      try one(#""dtype":"F32","shape":[1],"data_offsets":[4,8]"#, data: 8)
    }
    expectFormatError(.malformed, "`w`", "only 2 bytes") {
      try one(#""dtype":"F32","shape":[1],"data_offsets":[0,4]"#, data: 2)
    }
    expectFormatError(.malformed, "1 ") {
      try one(#""dtype":"F32","shape":[1],"data_offsets":[0,4]"#, data: 5 + 16)
    }
    expectFormatError(.malformed, "`w`", "overflow") {
      try one(#""dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]"#)
    }
    expectFormatError(.malformed, "`w`", "overflow") {
      try one(#""dtype":"F32","shape":[4611686018427387904,4,0],"data_offsets":[0,0]"#)
    }
    expectFormatError(.malformed, "`w`", "whole bytes") {
      try one(#""dtype":"F4","shape":[3],"data_offsets":[0,2]"#)
    }
    expectFormatError(.malformed, "`b`", "overlaps") {
      try open(
        #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}}"#,
        data: 6)
    }
    expectFormatError(.malformed, "`a`", "twice") {
      try open(
        #"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
        data: 8)
    }
  }

  @Test("offsets may come in any order and packed 4-bit types in whole bytes")
  func accepted() throws {
    try open(
      #"{"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]},"a":{"dtype":"F4","shape":[8],"data_offsets":[0,4]}}   "#,
      data: 6)
    try open("{}")
  }

  @Test("a header that is not UTF-8 is refused")
  func notUTF8() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("x.safetensors")
      try Data([6, 0, 0, 0, 0, 0, 0, 0] + Array("{\"".utf8) + [0xFF, 0xFE] + Array("\":".utf8)).write(to: url)
      expectFormatError(.malformed, "UTF-8") { _ = try SafetensorsFile(url) }
    }
  }

  @Test("a file that shrinks while it is open gives an error instead of SIGBUS")
  func shrinking() throws {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("model.safetensors")
      try FileManager.default.copyItem(at: fixture("types.safetensors"), to: url)
      let file = try SafetensorsFile(url)
      #expect(truncate(url.path, 100) == 0)
      expectFormatError(.malformed, "shrunk") { _ = try file.storedTensor("scalar") }
    }
  }

  @Test("missing files, folders and devices are errors")
  func notFiles() {
    expectFormatError(.notFound, "/no/such/file") {
      _ = try Checkpoint.open(URL(fileURLWithPath: "/no/such/file"))
    }
    expectFormatError(.mismatch, "folder") { _ = try MappedFile(URL(fileURLWithPath: "/")) }
    expectFormatError(.mismatch, "regular") { _ = try MappedFile(URL(fileURLWithPath: "/dev/zero")) }
  }
}
