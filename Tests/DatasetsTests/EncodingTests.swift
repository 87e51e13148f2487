import Datasets
import Foundation
import JSON
import Testing

@Suite struct EncodingTests {
  static let encodings: [(file: String, detected: String)] = [
    ("gb18030", "GB18030"), ("big5", "BIG5-HKSCS"), ("shift_jis", "CP932"), ("euc_kr", "CP949"),
    ("cp1252", "CP1252"), ("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("utf-16", "UTF-16LE"),
    ("utf-16-le", "UTF-16LE"),
  ]

  @Test("each encoding is detected and read as Python wrote it", arguments: encodings)
  func detected(file name: String, detected: String) throws {
    let file = try DataFile(Fixture.path("encodings/\(name).csv"))
    #expect(file.encoding.name == detected)
    #expect(file.detection != nil)
    try expectRows(file, name)
  }

  @Test("each encoding is read when it is named", arguments: encodings)
  func named(file name: String, detected: String) throws {
    let file = try DataFile(
      Fixture.path("encodings/\(name).csv"), options: .init(encoding: name.replacing("-sig", with: "")))
    #expect(file.detection == nil)
    try expectRows(file, name)
  }

  private func expectRows(_ file: DataFile, _ name: String) throws {
    let fixture = try Fixture.json("encodings/expected.json")
    let expected = try #require(fixture[name]?.arrayValue)
    let rows = try file.reader().rows()
    #expect(rows.map(\.columns) == expected.map { _ in ["department", "ask", "answer"] })
    #expect(rows.map { [$0["ask"], $0["answer"]] } == expected.map { [$0[0], $0[1]] })
  }

  @Test("characters cut anywhere between chunks are decoded")
  func chunks() throws {
    for (name, _) in Self.encodings {
      let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: Fixture.path("encodings/\(name).csv"))))
      let encoding = TextEncoding(name.replacing("-sig", with: ""))
      let whole = try decode([bytes], encoding)
      for size in [1, 2, 3, 7] {
        let chunks = stride(from: 0, to: bytes.count, by: size).map {
          Array(bytes[$0..<min($0 + size, bytes.count)])
        }
        #expect(try decode(chunks, encoding) == whole, "\(name) in chunks of \(size)")
      }
    }
  }

  @Test("a stateful encoding keeps its state between chunks")
  func stateful() throws {
    // "日本" in ISO-2022-JP: escape to JIS X 0208, two characters, escape to ASCII.
    let bytes: [UInt8] = [0x1B, 0x24, 0x42, 0x46, 0x7C, 0x4B, 0x5C, 0x1B, 0x28, 0x42, 0x21]
    let text = try decode(bytes.map { [$0] }, TextEncoding("ISO-2022-JP"))
    #expect(String(decoding: text, as: UTF8.self) == "日本!")
  }

  private func decode(_ chunks: [[UInt8]], _ encoding: TextEncoding) throws -> [UInt8] {
    let decoder = try TextDecoder(encoding)
    var output: [UInt8] = []
    for chunk in chunks { try chunk.withUnsafeBytes { try decoder.decode($0, isLast: false, into: &output) } }
    try [UInt8]().withUnsafeBytes { try decoder.decode($0, isLast: true, into: &output) }
    return output
  }

  @Test("an invalid sequence is an error that names its offset and row")
  func invalid() throws {
    let scratch = try Scratch()
    let path = try scratch.file("bad.csv", Array("a,b\n1,2\n3,".utf8) + [0xFF] + Array("\n".utf8))
    let reader = try DataFile(path, options: .init(encoding: "UTF-8")).reader()
    #expect(try reader.next()?["b"] == "2")
    let error = dataError { _ = try reader.next() }
    #expect(error?.message == "bytes FF 0A at offset 10 are no UTF-8 text")
    #expect(error?.location == .init(file: path, row: 2, line: 3, column: 3))
    #expect(error?.remedy?.contains("--encoding") == true)
  }

  @Test("a character cut off at the end of the file is an error")
  func truncated() throws {
    let scratch = try Scratch()
    let path = try scratch.file("cut.jsonl", Array("{\"a\": \"".utf8) + [0xE4, 0xB8])
    let error = dataError { _ = try DataFile(path, options: .init(encoding: "UTF-8")).reader().rows() }
    #expect(error?.message.contains("ends inside a character at byte 7 (E4 B8)") == true)
  }

  @Test("invalid bytes are replaced and counted on request")
  func replaced() throws {
    let scratch = try Scratch()
    let path = try scratch.file("bad.txt", Array("x".utf8) + [0xFF, 0xFE] + Array("y".utf8))
    let reader = try DataFile(path, options: .init(encoding: "UTF-8", replacesInvalidBytes: true)).reader()
    #expect(try reader.rows().map { $0["text"] } == ["x\u{FFFD}\u{FFFD}y"])
    #expect(reader.replacedBytes == 2)
  }

  @Test("an encoding that iconv does not know is an error")
  func unknown() throws {
    let error = dataError {
      _ = try DataFile(Fixture.path("encodings/utf-8.csv"), options: .init(encoding: "EBCDIC-NOWHERE"))
    }
    #expect(error?.message.contains("`EBCDIC-NOWHERE` is not known") == true)
  }

  @Test("bytes without meaning in any encoding are not guessed at")
  func undetectable() throws {
    var generator = ShuffleGenerator(seed: 1)
    let noise = (0..<4000).map { _ in UInt8(0x80 + generator.below(128)) }
    let scratch = try Scratch()
    let path = try scratch.file("noise.txt", noise)
    let error = dataError { _ = try DataFile(path) }
    #expect(error?.message.contains("cannot be detected") == true)
    #expect(error?.remedy?.contains("--encoding") == true)
  }

  @Test("a file that is ASCII for long before its first other character is detected")
  func lateCharacters() throws {
    let scratch = try Scratch()
    let chinese = try Data(contentsOf: URL(fileURLWithPath: Fixture.path("encodings/gb18030.csv")))
    let ascii = String(repeating: "department,ask,answer\n", count: 100_000)
    let path = try scratch.file("late.csv", Array(ascii.utf8) + Array(chinese))
    #expect(try DataFile(path).encoding == .gb18030)
  }

  @Test("a missing file is an error that says so")
  func missing() {
    let error = dataError { _ = try DataFile("/nowhere/data.csv") }
    #expect(error?.description.contains("/nowhere/data.csv: cannot open the file: No such file") == true)
  }
}
