import Formats
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct GGUFTests {
  @Test("every type decodes to the bit as the gguf package decodes it")
  func types() throws {
    let file = try GGUFFile(fixture("types.gguf"))
    try expectEqual(file, SafetensorsFile(fixture("types.gguf.expected.safetensors")))
    #expect(try file.storedTensor("random.Q4_K").type == .blocks(.q4_K))
    #expect(try file.storedTensor("random.Q4_K").bytes.count == 4 * 2 * 144)
    #expect(try file.storedTensor("plain.F32").shape == [2, 3, 5])
  }

  @Test("decoding to bfloat16 equals rounding the fp32 numbers, on one thread or many")
  func bfloat16() throws {
    let file = try GGUFFile(fixture("types.gguf"))
    for name in file.tensorNames where name != "undecodable" {
      let stored = try file.storedTensor(name)
      let engine = try Tensor(stored.floats(), shape: stored.shape).to(.bfloat16).floats()
      let direct = try [UInt16](unsafeUninitializedCapacity: stored.elementCount) { buffer, count in
        try stored.dequantizeToBFloat16(
          into: UnsafeMutableBufferPointer(rebasing: buffer[..<stored.elementCount]))
        count = stored.elementCount
      }
      let widened = direct.map { Float(bitPattern: UInt32($0) << 16) }
      #expect(zip(engine, widened).allSatisfy { $0 == $1 || ($0.isNaN && $1.isNaN) }, "\(name)")
      #expect(
        try file.tensor(name, dtype: .bfloat16).floats().elementsEqual(engine) { $0 == $1 || $0.isNaN },
        "\(name)")
    }
  }

  @Test("tensors larger than one thread's share decode as their pieces do")
  func parallel() throws {
    // 1,000 copies of the fixture's rows: several pieces, the last one not full.
    let stored = try GGUFFile(fixture("types.gguf")).storedTensor("random.Q6_K")
    let once = try stored.floats()
    let bytes = stored.bytes.withUnsafeBytes { Array($0) }
    let copies = 333
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("large.gguf")
      var builder = GGUFBuilder()
      builder.tensor("w", dimensions: [512, UInt64(4 * copies)], type: 14, offset: 0)
      builder.data = Array(repeating: bytes, count: copies).flatMap { $0 }
      try builder.bytes().write(to: url)
      let large = try GGUFFile(url).storedTensor("w").floats()
      for copy in 0..<copies {
        let piece = large[(copy * once.count)..<((copy + 1) * once.count)]
        #expect(piece.elementsEqual(once) { $0.bitPattern == $1.bitPattern || ($0.isNaN && $1.isNaN) })
      }
    }
  }

  @Test("a type that cannot be decoded keeps its blocks and names itself")
  func undecodable() throws {
    let tensor = try GGUFFile(fixture("types.gguf")).storedTensor("undecodable")
    #expect(tensor.bytes.count == 66)
    #expect(!tensor.isDecodable)
    expectFormatError(.unsupported, "`undecodable`", "IQ2_XXS") { _ = try tensor.floats() }
  }

  @Test("a buffer of the wrong size is refused")
  func bufferSize() throws {
    let tensor = try GGUFFile(fixture("types.gguf")).storedTensor("plain.F32")
    var buffer: [Float] = Array(repeating: 0, count: 29)
    expectFormatError(.mismatch, "30 elements", "29") {
      try buffer.withUnsafeMutableBufferPointer { try tensor.dequantize(into: $0) }
    }
  }

  @Test("metadata of every type is read")
  func metadata() throws {
    let values = try GGUFFile(fixture("types.gguf")).values
    #expect(values.architecture == "llama")
    #expect(values["test.u8"] == .uint8(200))
    #expect(values["test.i8"] == .int8(-100))
    #expect(values["test.u16"] == .uint16(60000))
    #expect(values["test.i16"] == .int16(-30000))
    #expect(values["test.u32"] == .uint32(4_000_000_000))
    #expect(values["test.i32"] == .int32(-2_000_000_000))
    #expect(values["test.f32"] == .float32(0.1))
    #expect(values["test.flag"] == .bool(true))
    #expect(values["test.text"] == .string("grüße 你好"))
    #expect(values["test.u64"] == .uint64(.max))
    #expect(values["test.i64"] == .int64(-(1 << 62)))
    #expect(values["test.f64"] == .float64(0.1))
    #expect(try values.integers("test.integers") == [1, -2, 3])
    #expect(try values.numbers("test.numbers") == [0.5, -1.5])
    #expect(values["test.flags"] == .array(.bool([true, false])))
    #expect(try values.strings("test.texts") == ["a", "", "ü"])
    #expect(try values.integer(".block_count") == 3)
    #expect(try values.number("test.u8") == 200)
    expectFormatError(.missing, "`llama.rope`") { _ = try values.number(".rope") }
    expectFormatError(.mismatch, "`test.text`", "a string", "an integer") {
      _ = try values.optionalInteger("test.text")
    }
    expectFormatError(.mismatch, "`test.u64`") { _ = try values.integer("test.u64") }
  }

  @Test("the vocabulary is read, canonically equivalent tokens apart")
  func vocabulary() throws {
    let vocabulary = try GGUFFile(fixture("types.gguf")).vocabulary()
    #expect(vocabulary.model == "gpt2")
    #expect(vocabulary.pre == "smollm")
    #expect(vocabulary.tokens.count == 6)
    #expect(vocabulary.tokens[3] == "Ġab")
    #expect(Array(vocabulary.tokens[4].utf8) == [0xC3, 0xA9])
    #expect(Array(vocabulary.tokens[5].utf8) == [0x65, 0xCC, 0x81])
    #expect(vocabulary.tokenTypes == [.control, .normal, .normal, .normal, .normal, .userDefined])
    #expect(vocabulary.scores == [0, -1, -2, -3.5, 0, 0])
    #expect(vocabulary.merges == ["a b", "Ġ ab"])
    #expect(vocabulary.beginningOfSequenceID == 0)
    #expect(vocabulary.paddingID == nil)
    #expect(vocabulary.addsBeginningOfSequence == false)
    #expect(vocabulary.addsEndOfSequence == nil)
    #expect(vocabulary.chatTemplate == "{{ messages }}")
    #expect(vocabulary.namedChatTemplates == ["tool_use": "T"])
  }

  // MARK: Hostile files

  private func open(_ builder: GGUFBuilder) throws -> GGUFFile {
    try withTemporaryFolder { folder in
      let url = folder.appendingPathComponent("hostile.gguf")
      try builder.bytes().write(to: url)
      return try GGUFFile(url)
    }
  }

  @Test("versions that cannot be read are named")
  func versions() {
    expectFormatError(.unsupported, "version 1") { _ = try open(GGUFBuilder(version: 1)) }
    expectFormatError(.unsupported, "version 4") { _ = try open(GGUFBuilder(version: 4)) }
    expectFormatError(.unsupported, "big-endian") {
      _ = try open(GGUFBuilder(version: UInt32(3).byteSwapped))
    }
  }

  @Test("versions 2 and 3 and nested arrays are read", arguments: [UInt32(2), 3])
  func nested(version: UInt32) throws {
    var builder = GGUFBuilder(version: version)
    builder.value("nested", type: 9) {
      $0.append(
        UInt32(9), UInt64(2), UInt32(0), UInt64(2), UInt8(1), UInt8(2), UInt32(4), UInt64(1), UInt32(7))
    }
    #expect(try open(builder).values["nested"] == .array(.array([.uint8([1, 2]), .uint32([7])])))
  }

  @Test("counts that cannot be are refused before anything is allocated")
  func counts() throws {
    for huge in [UInt64(1) << 60, .max, 1 << 33] {
      expectFormatError(.malformed, "tensors") {
        var builder = GGUFBuilder()
        builder.tensorCount = huge
        _ = try open(builder)
      }
      expectFormatError(.malformed, "metadata entries") {
        var builder = GGUFBuilder()
        builder.valueCount = huge
        _ = try open(builder)
      }
      for elementType in [UInt32(0), 6, 8, 9, 12] {
        expectFormatError(.malformed, "`a`", "\(huge)") {
          var builder = GGUFBuilder()
          builder.value("a", type: 9) { $0.append(elementType, huge) }
          _ = try open(builder)
        }
      }
      expectFormatError(.malformed, "\(huge) bytes") {
        var builder = GGUFBuilder()
        builder.value("a", type: 8) { $0.append(huge) }
        _ = try open(builder)
      }
    }
    expectFormatError(.malformed, "deep") {
      var builder = GGUFBuilder()
      builder.value("a", type: 9) { for _ in 0..<2000 { $0.append(UInt32(9), UInt64(1)) } }
      _ = try open(builder)
    }
  }

  @Test("tensors that do not fit are refused by name and reason")
  func tensors() throws {
    func refuse(
      _ parts: String, dimensions: [UInt64] = [32], type: UInt32 = 0, offset: UInt64 = 0,
      code: FormatError.Code = .malformed,
      location: SourceLocation = #_sourceLocation
    ) {
      expectFormatError(code, "`w`", parts, location: location) {
        var builder = GGUFBuilder()
        builder.tensor("w", dimensions: dimensions, type: type, offset: offset)
        builder.data = Array(repeating: 0, count: 128)
        _ = try open(builder)
      }
    }
    refuse("reaches beyond", dimensions: [33])
    refuse("reaches beyond", offset: 32)
    refuse("reaches beyond", offset: .max & ~31)
    refuse("reaches beyond", offset: UInt64(Int.max) & ~31)
    refuse("alignment", offset: 8)
    refuse("overflow", dimensions: [1 << 62, 4])
    refuse("overflow", dimensions: [.max])
    refuse("overflow", dimensions: [1 << 61])
    refuse("multiple of its block", dimensions: [31], type: 2)
    refuse("dimensions", dimensions: [1, 1, 1, 1, 1])
    refuse("type number 4", type: 4, code: .unsupported)
    refuse("type number 99", type: 99, code: .unsupported)
    expectFormatError(.malformed, "`a`", "`b`", "overlap") {
      var builder = GGUFBuilder()
      builder.tensor("a", dimensions: [16], type: 0, offset: 0)
      builder.tensor("b", dimensions: [16], type: 0, offset: 32)
      builder.data = Array(repeating: 0, count: 128)
      _ = try open(builder)
    }
    expectFormatError(.malformed, "`a`", "twice") {
      var builder = GGUFBuilder()
      for offset in [UInt64(0), 32] { builder.tensor("a", dimensions: [8], type: 0, offset: offset) }
      builder.data = Array(repeating: 0, count: 64)
      _ = try open(builder)
    }
    expectFormatError(.malformed, "general.alignment") {
      var builder = GGUFBuilder()
      builder.value("general.alignment", type: 4) { $0.append(UInt32(0)) }
      _ = try open(builder)
    }
  }
}

/// Puts together GGUF files, right and wrong ones.
struct GGUFBuilder {
  var version: UInt32 = 3
  var tensorCount: UInt64 = 0
  var valueCount: UInt64 = 0
  var data: [UInt8] = []
  private var values = Bytes()
  private var infos = Bytes()

  init(version: UInt32 = 3) { self.version = version }

  struct Bytes {
    var data = Data()
    mutating func append(_ numbers: any FixedWidthInteger...) {
      for number in numbers { append(one: number) }
    }
    mutating func append(_ text: String) {
      append(UInt64(text.utf8.count))
      data.append(Data(text.utf8))
    }
    private mutating func append<T: FixedWidthInteger>(one number: T) {
      withUnsafeBytes(of: number.littleEndian) { data.append(contentsOf: $0) }
    }
  }

  mutating func value(_ key: String, type: UInt32, _ body: (inout Bytes) -> Void) {
    valueCount += 1
    values.append(key)
    values.append(type)
    body(&values)
  }

  mutating func tensor(_ name: String, dimensions: [UInt64], type: UInt32, offset: UInt64) {
    tensorCount += 1
    infos.append(name)
    infos.append(UInt32(dimensions.count))
    for dimension in dimensions { infos.append(dimension) }
    infos.append(type, offset)
  }

  func bytes() -> Data {
    var file = Bytes()
    file.append(UInt32(0x4655_4747), version, tensorCount, valueCount)
    file.data.append(values.data)
    file.data.append(infos.data)
    file.data.append(Data(count: (32 - file.data.count % 32) % 32))
    file.data.append(contentsOf: data)
    return file.data
  }
}
