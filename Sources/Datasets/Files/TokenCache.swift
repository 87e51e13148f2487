import Files
import Foundation
import JSON

/// The encoded examples of a data file, in a file that is mapped into memory: ten million rows take no more
/// memory than the batch at hand.
///
/// Layout, little-endian: a header of 96 bytes; for each example its tokens and then its labels, 4 bytes each;
/// where each example starts, counted in tokens, 8 bytes each and one more; the ``EncodingReport`` as JSON.
/// Header: `GRAFTTOK`, version, length of the report (4 bytes each), the key (32), the number of examples and
/// of tokens (8 each), 24 bytes of zeros, and the FNV-1a hash of all that (8).
public struct TokenCache: ExampleSource {
  public let lengths: [Int32]
  /// What became of the rows when the cache was made.
  public let report: EncodingReport
  private let data: Data
  private let starts: [UInt64]

  fileprivate static let magic = Array("GRAFTTOK".utf8)
  fileprivate static let version: UInt32 = 1
  fileprivate static let headerSize = 96

  /// What a cache was made from: data file, tokenizer and options.
  public struct Key: Sendable, Hashable {
    let digest: [UInt8]

    /// The data file is known by its path, size, time of change and first and last 64 KiB: to read all of a
    /// large file would cost what the cache is there to save.
    public init(file: DataFile, encoder: ExampleEncoder, rowFormat: RowFormatOptions) throws {
      var hash = SHA256()
      let encoded = JSONEncoder()
      encoded.outputFormatting = .sortedKeys
      var status = stat()
      let bytes = try ByteFile(file.path)
      guard stat(file.path, &status) == 0 else {
        throw DataError("cannot be examined: \(String(cString: strerror(errno)))", at: .init(file: file.path))
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
      hash.update(field: encoder.tokenization.identity)
      hash.update(field: "\(encoder.tokenization.endOfSequence ?? -1) \(encoder.tokenization.render != nil)")
      hash.update(field: String(decoding: try encoded.encode(encoder.options), as: UTF8.self))
      hash.update(field: String(decoding: try encoded.encode(rowFormat), as: UTF8.self))
      hash.update(field: "\(TokenCache.version)")
      digest = hash.finalize()
    }

    /// `<hash>.tokens`
    public var fileName: String {
      digest.prefix(16).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() + ".tokens"
    }
  }

  /// Opens a cache.
  ///
  /// - Throws: ``DataError`` when the file is not whole, or not the cache for `key`.
  public init(_ path: String, key: Key) throws {
    func damaged(_ what: String) -> DataError {
      DataError("the token cache \(what)", at: .init(file: path), remedy: "Delete it; it is made again")
    }
    _ = try ByteFile(path)
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

    let table = Self.headerSize + 8 * Int(tokens)
    let starts = data.withUnsafeBytes { bytes in
      (0...Int(count)).map {
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: table + 8 * $0, as: UInt64.self))
      }
    }
    guard starts.first == 0, starts.last == tokens else { throw damaged("has a damaged table") }
    var lengths: [Int32] = []
    lengths.reserveCapacity(Int(count))
    for (start, end) in zip(starts, starts.dropFirst()) {
      guard start <= end, let length = Int32(exactly: end - start) else {
        throw damaged("has a damaged table")
      }
      lengths.append(length)
    }
    do {
      report = try JSONDecoder().decode(EncodingReport.self, from: data.suffix(reportSize))
    } catch {
      throw damaged("has a damaged report")
    }
    self.lengths = lengths
    self.starts = starts
  }

  public func example(at index: Int) throws -> Example {
    let count = Int(lengths[index])
    return data.withUnsafeBytes { bytes in
      func array(at offset: Int) -> [Int32] {
        (0..<count).map {
          Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 4 * $0, as: Int32.self))
        }
      }
      let offset = Self.headerSize + 8 * Int(starts[index])
      return Example(tokens: array(at: offset), labels: array(at: offset + 4 * count))
    }
  }

  /// Writes a cache; without ``commit(_:)`` nothing of it stays.
  final class Writer {
    private let file: AtomicFile
    private let key: Key
    private var starts: [UInt64] = [0]

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
        try values.map(\.littleEndian).withUnsafeBytes { try file.write($0) }
      }
      starts.append(starts[starts.count - 1] + UInt64(example.count))
    }

    func commit(_ report: EncodingReport) throws {
      try starts.map(\.littleEndian).withUnsafeBytes { try file.write($0) }
      let encoder = JSONEncoder()
      encoder.outputFormatting = .sortedKeys  // equal data give equal files
      let report = try encoder.encode(report)
      try file.write([UInt8](report))
      var header = TokenCache.magic
      func append(_ value: some FixedWidthInteger) {
        header.append(contentsOf: withUnsafeBytes(of: value.littleEndian, Array.init))
      }
      append(TokenCache.version)
      append(UInt32(report.count))
      header.append(contentsOf: key.digest)
      append(UInt64(starts.count - 1))
      append(starts[starts.count - 1])
      header.append(contentsOf: [UInt8](repeating: 0, count: 24))
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
