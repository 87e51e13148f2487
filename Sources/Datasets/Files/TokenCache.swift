import Files
import Foundation
import JSON

/// The encoded examples of data files, in a file that is mapped into memory: ten million rows take no more
/// memory than their lengths and the batch at hand.
///
/// Layout, little-endian: a header of 96 bytes; for each example its tokens and then its labels, 4 bytes each;
/// where each example starts, counted in tokens, 8 bytes each and one more; the ``EncodingReport`` as JSON.
/// Header: `GRAFTTOK`, version, length of the report (4 bytes each), the key (32), the number of examples and
/// of tokens (8 each), the ``BodyHash`` of what follows the header (8), 16 bytes of zeros, and the FNV-1a hash of all that (8).
public struct TokenCache: ExampleSource {
  public let lengths: [Int32]
  /// What became of the rows when the cache was made.
  public let report: EncodingReport
  private let data: Data
  /// Where the table of starts begins.
  private let table: Int

  fileprivate static let magic = Array("GRAFTTOK".utf8)
  fileprivate static let version: UInt32 = 2
  fileprivate static let headerSize = 96
  private static let fileExtension = ".tokens"

  /// What a cache was made from: data files, tokenizer and options.
  public struct Key: Sendable, Hashable {
    let digest: [UInt8]

    /// A data file is known by its path, size, time of change and first and last 64 KiB: to read all of a
    /// large file would cost what the cache is there to save.
    ///
    /// - Parameter limit: how many rows are read at most; nil is all.
    public init(files: [DataFile], limit: Int? = nil, encoder: ExampleEncoder, rowFormat: RowFormatOptions)
      throws
    {
      var hash = SHA256()
      let encoded = JSONEncoder()
      encoded.outputFormatting = .sortedKeys
      for file in files {
        var status = stat()
        let bytes = try ByteFile(file.path)
        guard stat(file.path, &status) == 0 else {
          throw DataError(
            "cannot be examined: \(String(cString: strerror(errno)))", at: .init(file: file.path))
        }
        #if canImport(Darwin)
          let changed = status.st_mtimespec
        #else
          let changed = status.st_mtim
        #endif
        let size = Int(status.st_size)
        hash.update(field: URL(fileURLWithPath: file.path).standardizedFileURL.path)
        hash.update(field: "\(size) \(changed.tv_sec) \(changed.tv_nsec)")
        hash.update(try bytes.read(upTo: 64 << 10, at: 0))
        hash.update(try bytes.read(upTo: 64 << 10, at: max(0, size - (64 << 10))))
        hash.update(field: "\(file.format.rawValue) \(file.encoding)")
        hash.update(field: String(decoding: try encoded.encode(file.options), as: UTF8.self))
      }
      hash.update(field: "\(files.count) \(limit ?? -1)")
      hash.update(field: encoder.tokenization.identity)
      hash.update(field: "\(encoder.tokenization.endOfSequence ?? -1) \(encoder.tokenization.render != nil)")
      hash.update(field: String(decoding: try encoded.encode(encoder.options), as: UTF8.self))
      hash.update(field: String(decoding: try encoded.encode(rowFormat), as: UTF8.self))
      hash.update(field: "\(TokenCache.version)")
      digest = hash.finalize()
    }

    /// `<hash>.tokens`
    public var fileName: String {
      digest.prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
        + TokenCache.fileExtension
    }
  }

  /// Opens a cache.
  ///
  /// - Throws: ``DataError`` when the file is not whole, or not the cache for `key`.
  public init(_ path: String, key: Key) throws {
    func damaged(_ what: String) -> DataError {
      DataError("the token cache \(what)", at: .init(file: path), remedy: "Delete it; it is made again")
    }
    let file = try ByteFile(path)
    do {
      data = try Data(contentsOf: URL(fileURLWithPath: path), options: .alwaysMapped)
    } catch {
      throw damaged("cannot be mapped: \(error.localizedDescription)")
    }
    guard data.count >= Self.headerSize else { throw damaged("is cut off") }
    let header = Array(data.prefix(Self.headerSize))
    let body = header.dropLast(8)
    guard header.starts(with: Self.magic) else { throw damaged("is no such file") }
    guard Self.integer(header, at: 8, as: UInt32.self) == Self.version else {
      throw damaged("is of another version")
    }
    guard Self.integer(header, at: 88, as: UInt64.self) == Self.hash(body) else {
      throw damaged("has a damaged header")
    }
    guard Array(header[16..<48]) == key.digest else { throw damaged("was made from other data or options") }
    let reportSize = Int(Self.integer(header, at: 12, as: UInt32.self))
    // Sizes a damaged file can claim must not overflow: each is checked against the file's own.
    let (count, tokens) = (
      Self.integer(header, at: 48, as: UInt64.self), Self.integer(header, at: 56, as: UInt64.self)
    )
    guard count < UInt64(data.count) / 8, tokens <= UInt64(data.count) / 8,
      data.count == Self.headerSize + 8 * Int(tokens) + 8 * (Int(count) + 1) + reportSize
    else { throw damaged("is cut off") }

    // Read rather than mapped, so that no page of it counts for this process.
    var hash = BodyHash()
    var place = Self.headerSize
    while place < data.count {
      let piece = try file.read(upTo: BodyHash.piece, at: place)
      guard !piece.isEmpty else { throw damaged("is cut off") }
      hash.update(piece)
      place += piece.count
    }
    guard hash.value == Self.integer(header, at: 64, as: UInt64.self) else { throw damaged("is damaged") }

    let table = Self.headerSize + 8 * Int(tokens)
    let lengths: [Int32]? = data.withUnsafeBytes { bytes in
      var lengths: [Int32] = []
      lengths.reserveCapacity(Int(count))
      var start = Self.start(of: 0, in: bytes, table: table)
      guard start == 0 else { return nil }
      for index in 1...Int(count) {
        let end = Self.start(of: index, in: bytes, table: table)
        guard start <= end, let length = Int32(exactly: end - start) else { return nil }
        lengths.append(length)
        start = end
      }
      return start == tokens ? lengths : nil
    }
    guard let lengths else { throw damaged("has a damaged table") }
    do {
      report = try JSONDecoder().decode(EncodingReport.self, from: data.suffix(reportSize))
    } catch {
      throw damaged("has a damaged report")
    }
    self.lengths = lengths
    self.table = table
  }

  private static func start(of example: Int, in bytes: UnsafeRawBufferPointer, table: Int) -> UInt64 {
    UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: table + 8 * example, as: UInt64.self))
  }

  public func example(at index: Int) throws -> Example {
    let count = Int(lengths[index])
    return data.withUnsafeBytes { bytes in
      func array(at offset: Int) -> [Int32] {
        (0..<count).map {
          Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 4 * $0, as: Int32.self))
        }
      }
      let offset = Self.headerSize + 8 * Int(Self.start(of: index, in: bytes, table: table))
      return Example(tokens: array(at: offset), labels: array(at: offset + 4 * count))
    }
  }

  // MARK: Age

  /// How long a cache is kept that no run asks for.
  private static let keptUnused = 30 * 86400.0

  /// What cannot be changed, or removed, stays as it is: others may keep caches in the same folder.
  static func markUsed(_ path: String) {
    try? FileManager.default.setAttributes([.modificationDate: Date()], ofItemAtPath: path)
  }

  /// Removes the caches of `folder` that no run has asked for in a month.
  static func removeUnused(in folder: String) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
    for path in names.filter({ $0.hasSuffix(fileExtension) }).map({ folder + "/" + $0 }) {
      let used = (try? FileManager.default.attributesOfItem(atPath: path))?[.modificationDate] as? Date
      if let used, used.timeIntervalSinceNow < -keptUnused {
        try? FileManager.default.removeItem(atPath: path)
      }
    }
  }

  /// Writes a cache; without ``commit(_:)`` nothing of it stays.
  final class Writer {
    private let file: AtomicFile
    private let key: Key
    private var starts: [UInt64] = [0]
    private var hash = BodyHash()
    /// What is not written yet: less than a piece.
    private var buffer: [UInt8] = []

    init(_ path: String, key: Key) throws {
      let folder = URL(fileURLWithPath: path).deletingLastPathComponent()
      do {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      } catch {
        throw DataError("cannot make the folder: \(error.localizedDescription)", at: .init(file: folder.path))
      }
      file = try AtomicFile(URL(fileURLWithPath: path))
      self.key = key
      try file.write([UInt8](repeating: 0, count: TokenCache.headerSize))
    }

    func append(_ example: Example) throws {
      for values in [example.tokens, example.labels] {
        try values.map(\.littleEndian).withUnsafeBytes { try write($0) }
      }
      starts.append(starts[starts.count - 1] + UInt64(example.count))
    }

    private func write(_ bytes: UnsafeRawBufferPointer) throws {
      buffer.append(contentsOf: bytes)
      var begin = 0
      while buffer.count - begin >= BodyHash.piece {
        try flush(buffer[begin..<begin + BodyHash.piece])
        begin += BodyHash.piece
      }
      if begin > 0 { buffer.removeFirst(begin) }
    }

    private func flush(_ piece: ArraySlice<UInt8>) throws {
      hash.update(Array(piece))
      try file.write(Array(piece))
    }

    func commit(_ report: EncodingReport) throws {
      try starts.map(\.littleEndian).withUnsafeBytes { try write($0) }
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys  // equal data give equal files
      let report = try encoder.encode(report)
      try report.withUnsafeBytes { try write($0) }
      try flush(buffer[...])
      var header = TokenCache.magic
      func append(_ value: some FixedWidthInteger) {
        header.append(contentsOf: withUnsafeBytes(of: value.littleEndian, Array.init))
      }
      append(TokenCache.version)
      append(UInt32(report.count))
      header.append(contentsOf: key.digest)
      append(UInt64(starts.count - 1))
      append(starts[starts.count - 1])
      append(hash.value)
      header.append(contentsOf: [UInt8](repeating: 0, count: 16))
      append(TokenCache.hash(header[...]))
      try file.overwriteStart(header)
      try file.commit()
    }
  }

  private static func integer<Integer: FixedWidthInteger>(
    _ bytes: [UInt8], at offset: Int, as type: Integer.Type
  ) -> Integer {
    bytes.withUnsafeBytes { Integer(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: type)) }
  }

  fileprivate static func hash(_ bytes: ArraySlice<UInt8>) -> UInt64 {
    bytes.reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
  }
}

/// FNV-1a over words of 8 bytes in four lanes: as fast as the bytes are read, and different whenever any one word is.
struct BodyHash {
  /// What is hashed at a time; only the last piece may be shorter.
  static let piece = 1 << 20

  private var lanes: (UInt64, UInt64, UInt64, UInt64) = (
    0xCBF2_9CE4_8422_2325, 0x8422_2325_CBF2_9CE4, 0x9CE4_8422_2325_CBF2, 0x2325_CBF2_9CE4_8422
  )
  private var count: UInt64 = 0
  private static let prime: UInt64 = 0x100_0000_01B3

  mutating func update(_ bytes: [UInt8]) {
    count += UInt64(bytes.count)
    var padded = bytes
    if bytes.count % 32 != 0 { padded += [UInt8](repeating: 0, count: 32 - bytes.count % 32) }
    padded.withUnsafeBytes { memory in
      for offset in stride(from: 0, to: memory.count, by: 32) {
        func word(_ index: Int) -> UInt64 {
          UInt64(littleEndian: memory.loadUnaligned(fromByteOffset: offset + 8 * index, as: UInt64.self))
        }
        lanes.0 = (lanes.0 ^ word(0)) &* Self.prime
        lanes.1 = (lanes.1 ^ word(1)) &* Self.prime
        lanes.2 = (lanes.2 ^ word(2)) &* Self.prime
        lanes.3 = (lanes.3 ^ word(3)) &* Self.prime
      }
    }
  }

  var value: UInt64 {
    [lanes.0, lanes.1, lanes.2, lanes.3, count].reduce(0xCBF2_9CE4_8422_2325) { ($0 ^ $1) &* Self.prime }
  }
}
