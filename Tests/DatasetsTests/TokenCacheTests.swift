import Datasets
import Foundation
import JSON
import Testing

@Suite struct TokenCacheTests {
  private let encoder = DatasetEncoder(ExampleEncoder(WordTokenization.chat))

  private func file(_ scratch: Scratch, rows: Int = 100) throws -> DataFile {
    let lines = (0..<rows).map {
      "{\"prompt\": \"a\", \"completion\": \" \(String(repeating: "b ", count: $0 % 9))x\"}\n"
    }
    return try DataFile(try scratch.file("d.jsonl", lines.joined()))
  }

  @Test("a cache gives the examples that were encoded, and is made once")
  func roundTrip() async throws {
    let scratch = try Scratch()
    let file = try file(scratch)
    let folder = scratch.path("cache")
    let (list, plainReport) = try await encoder.examples(of: [file])
    let (cache, report) = try await encoder.cachedExamples(of: [file], in: folder)
    #expect(report == plainReport)
    #expect(cache.lengths == list.lengths)
    #expect(try (0..<100).map(cache.example(at:)) == list.examples)
    let names = try FileManager.default.contentsOfDirectory(atPath: folder)
    #expect(names.count == 1)
    let path = folder + "/" + names[0]
    let made = try FileManager.default.attributesOfItem(atPath: path)[.systemFileNumber] as? Int
    let (again, sameReport) = try await encoder.cachedExamples(of: [file], in: folder)
    #expect(sameReport == report)
    #expect(try again.example(at: 57) == list.examples[57])
    #expect(try FileManager.default.attributesOfItem(atPath: path)[.systemFileNumber] as? Int == made)
  }

  @Test("a cache of several files ends at the limit, as rows in memory do")
  func severalFiles() async throws {
    let scratch = try Scratch()
    let file = try file(scratch, rows: 60)
    let (list, plainReport) = try await encoder.examples(of: [file, file], limit: 75)
    let (cache, report) = try await encoder.cachedExamples(
      of: [file, file], limit: 75, in: scratch.path("cache"))
    #expect(report == plainReport && report.rows == 75)
    #expect(try (0..<75).map(cache.example(at:)) == list.examples)
  }

  @Test("a folder that cannot be written is said to be the reason")
  func unwritable() async throws {
    let scratch = try Scratch()
    let file = try file(scratch)
    let blocked = try scratch.file("blocked", "a file where the folder would be")
    await #expect(throws: TokenCacheNotWritten.self) {
      _ = try await encoder.cachedExamples(of: [file], in: blocked)
    }
  }

  @Test("caches that nobody has used for a month make room for a new one")
  func unused() async throws {
    let scratch = try Scratch()
    let folder = scratch.path("cache")
    func age(_ path: String, days: Double) throws {
      try FileManager.default.setAttributes(
        [.modificationDate: Date(timeIntervalSinceNow: -86400 * days)], ofItemAtPath: path)
    }
    func caches() throws -> Set<String> { Set(try FileManager.default.contentsOfDirectory(atPath: folder)) }
    let file = try file(scratch)
    _ = try await encoder.cachedExamples(of: [file], limit: 1, in: folder)
    let old = try #require(caches().first)
    _ = try await encoder.cachedExamples(of: [file], limit: 2, in: folder)
    let used = try #require(caches().subtracting([old]).first)
    for name in [old, used] { try age(folder + "/" + name, days: 31) }
    // Files of others stay, however old they are.
    try Data().write(to: URL(fileURLWithPath: folder + "/notes.txt"))
    try age(folder + "/notes.txt", days: 400)

    _ = try await encoder.cachedExamples(of: [file], limit: 2, in: folder)  // used again today
    _ = try await encoder.cachedExamples(of: [file], limit: 3, in: folder)
    let left = try caches()
    #expect(!left.contains(old) && left.contains(used) && left.contains("notes.txt") && left.count == 3)
  }

  @Test("other data, options or tokenizers have another cache")
  func keys() throws {
    let scratch = try Scratch()
    let first = try file(scratch)
    var other = WordTokenization.chat
    other.identity = "others"
    let keys = [
      try TokenCache.Key(files: [first], encoder: encoder.encoder, rowFormat: .init()),
      try TokenCache.Key(
        files: [first], encoder: ExampleEncoder(WordTokenization.chat, options: .init(maxLength: 7)),
        rowFormat: .init()),
      try TokenCache.Key(files: [first], encoder: ExampleEncoder(other), rowFormat: .init()),
      try TokenCache.Key(files: [first], encoder: encoder.encoder, rowFormat: .init(systemPrompt: "x")),
      try TokenCache.Key(files: [first], limit: 5, encoder: encoder.encoder, rowFormat: .init()),
      try TokenCache.Key(files: [first, first], encoder: encoder.encoder, rowFormat: .init()),
      try TokenCache.Key(files: [try file(scratch, rows: 101)], encoder: encoder.encoder, rowFormat: .init()),
    ]
    #expect(Set(keys).count == keys.count)
    #expect(Set(keys.map(\.fileName)).count == keys.count)
  }

  @Test("a cache that is cut off or changed is refused, and made again")
  func damaged() async throws {
    let scratch = try Scratch()
    let file = try file(scratch)
    let key = try TokenCache.Key(files: [file], encoder: encoder.encoder, rowFormat: .init())
    let (original, _) = try await encoder.cachedExamples(of: [file], in: scratch.folder.path)
    let path = scratch.path(key.fileName)
    let whole = Array(try Data(contentsOf: URL(fileURLWithPath: path)))
    let last = try original.example(at: 99)
    var damages: [[UInt8]] = [0, 8, 95, 96, whole.count / 2, whole.count - 1].map { Array(whole[..<$0]) }
    damages.append(whole + [0])
    // In the header, in tokens and labels, in the table, and in the report.
    for position in [
      0, 8, 12, 20, 48, 55, 56, 63, 64, 80, 88, 96, 301, whole.count / 2, whole.count - 700, whole.count - 20,
    ] {
      var changed = whole
      changed[position] ^= 0x41
      damages.append(changed)
    }
    for damage in damages {
      // A new file each time: the old one stays mapped.
      try FileManager.default.removeItem(atPath: path)
      _ = try scratch.file(key.fileName, damage)
      #expect(dataError { _ = try TokenCache(path, key: key) }?.remedy == "Delete it; it is made again")
      let (remade, _) = try await encoder.cachedExamples(of: [file], in: scratch.folder.path)
      #expect(try remade.example(at: 99) == last)
    }
    #expect(Array(try Data(contentsOf: URL(fileURLWithPath: path))) == whole)
  }

  @Test("SHA-256 equals hashlib's")
  func sha256() throws {
    let fixture = try Fixture.json("sha256.json")
    for (count, expected) in try #require(fixture.objectValue) {
      var hash = SHA256()
      hash.update((0..<(try #require(Int(count)))).map { UInt8($0 % 251) })
      let digest = hash.finalize().map { String(format: "%02x", $0) }.joined()
      #expect(digest == expected.stringValue, "\(count) bytes")
    }
  }
}
