import Foundation

/// A GGUF file of version 2 or 3, mapped into memory: the format of llama.cpp.
///
/// Format: magic, version, counts, typed metadata, tensor descriptions, then the tensors, each at a multiple of
/// `general.alignment`. Dimensions are stored innermost first; `StoredTensor.shape` has them in PyTorch's order.
/// Names are those of llama.cpp (`blk.0.attn_q.weight`), and llama's query and key rows are permuted; both is model loading's to undo.
public struct GGUFFile: CheckpointReader {
  public let url: URL
  /// 2 or 3.
  public let version: Int
  /// The metadata with types. (`metadata` has the scalars as text.)
  public let values: GGUFMetadata
  public let tensorNames: [String]
  private let file: MappedFile
  private let entries: [String: Entry]

  private struct Entry: Sendable {
    var type: GGMLType
    var shape: [Int]
    var elementCount: Int
    var range: Range<Int>  // from the beginning of the file
  }

  private static let magic: UInt32 = 0x4655_4747  // "GGUF"
  private static let maximumDimensions: UInt32 = 4  // GGML_MAX_DIMS
  private static let defaultAlignment = 32

  /// Opens the file and reads its header.
  public init(_ url: URL) throws { try self.init(MappedFile(url)) }

  init(_ file: MappedFile) throws {
    self.file = file
    url = file.url
    var cursor = GGUFCursor(file.view, url: file.url)

    let found: UInt32 = try cursor.integer()
    guard found == Self.magic else {
      throw FormatError.malformed(file.url, "the file does not begin with `GGUF`")
    }
    version = try Self.version(&cursor)

    // A description takes at least a length, a number of dimensions, a type and an offset; a metadata entry at
    // least a length, a type and a byte.
    let tensorCount = try cursor.count(of: "tensors", minimumSize: 24)
    let valueCount = try cursor.count(of: "metadata entries", minimumSize: 13)
    values = try Self.values(&cursor, count: valueCount)
    let alignment = try Self.alignment(values, url)

    var infos: [Info] = []
    infos.reserveCapacity(tensorCount)
    for _ in 0..<tensorCount { infos.append(try Self.info(&cursor)) }

    let dataStart = (cursor.position + alignment - 1) / alignment * alignment
    var entries: [String: Entry] = [:]
    entries.reserveCapacity(tensorCount)
    for info in infos {
      let entry = try Self.entry(info, dataStart: dataStart, alignment: alignment, file)
      guard entries.updateValue(entry, forKey: info.name) == nil else {
        throw FormatError.malformed(url, "the header names the tensor \(quoted(info.name)) twice")
      }
    }
    let names = infos.map(\.name)
    try Self.checkOverlaps(names, entries, url)
    self.tensorNames = names
    self.entries = entries
  }

  static func recognizes(_ file: MappedFile) -> Bool { file.view.load(UInt32.self, at: 0) == magic }

  public var metadata: [String: String] { values.texts }

  public func advise(_ advice: MappedFile.Advice) { file.advise(advice) }

  public func contains(_ name: String) -> Bool { entries[name] != nil }

  public func storedTensor(_ name: String) throws -> StoredTensor {
    guard let entry = entries[name] else { throw missing(name) }
    try file.checkUnchanged()
    guard let bytes = file.view.slice(entry.range) else {
      preconditionFailure("the ranges were checked against the file's size when it was opened")
    }
    return StoredTensor(
      name: name, type: entry.type.stored, shape: entry.shape, elementCount: entry.elementCount, bytes: bytes,
      source: url)
  }

  // MARK: Header

  private struct Info {
    var name: String
    var dimensions: [UInt64]  // innermost first
    var type: UInt32
    var offset: UInt64
  }

  private static func version(_ cursor: inout GGUFCursor) throws -> Int {
    let version: UInt32 = try cursor.integer()
    switch version {
    case 2, 3: return Int(version)
    case 1:
      throw FormatError(
        .unsupported, in: cursor.url, "this is GGUF version 1, which was replaced in August 2023",
        remedy: "Convert the model again with a current llama.cpp, which writes version 3")
    case let swapped where swapped.byteSwapped <= 3:
      throw FormatError(
        .unsupported, in: cursor.url, "this GGUF file is big-endian",
        remedy: "Use the little-endian file of the same model")
    default:
      throw FormatError(
        .unsupported, in: cursor.url, "this is GGUF version \(version); versions 2 and 3 can be read",
        remedy: "Convert the model to version 3")
    }
  }

  private static func values(_ cursor: inout GGUFCursor, count: Int) throws -> GGUFMetadata {
    var keys: [String] = []
    var values: [String: GGUFValue] = [:]
    keys.reserveCapacity(count)
    for _ in 0..<count {
      let key = try cursor.string("a metadata key")
      let type: UInt32 = try cursor.integer()
      let value = try cursor.value(type: type, of: key)
      guard values.updateValue(value, forKey: key) == nil else {
        throw FormatError.malformed(cursor.url, "the metadata \(quoted(key)) occurs twice")
      }
      keys.append(key)
    }
    return GGUFMetadata(keys: keys, values: values, url: cursor.url)
  }

  private static func alignment(_ values: GGUFMetadata, _ url: URL) throws -> Int {
    guard let value = values["general.alignment"] else { return defaultAlignment }
    guard case .uint32(let alignment) = value, alignment > 0, alignment & (alignment - 1) == 0 else {
      throw FormatError.malformed(url, "`general.alignment` is not a power of two of type uint32")
    }
    return Int(alignment)
  }

  private static func info(_ cursor: inout GGUFCursor) throws -> Info {
    let name = try cursor.string("the name of a tensor")
    let dimensionCount: UInt32 = try cursor.integer()
    guard dimensionCount <= maximumDimensions else {
      throw FormatError.malformed(
        cursor.url,
        "the tensor \(quoted(name)) has \(dimensionCount) dimensions; GGML has at most \(maximumDimensions)")
    }
    var dimensions: [UInt64] = []
    for _ in 0..<dimensionCount { dimensions.append(try cursor.integer()) }
    return Info(name: name, dimensions: dimensions, type: try cursor.integer(), offset: try cursor.integer())
  }

  private static func entry(_ info: Info, dataStart: Int, alignment: Int, _ file: MappedFile) throws -> Entry
  {
    let url = file.url
    func fail(_ problem: String) -> FormatError {
      .malformed(url, "the tensor \(quoted(info.name)) \(problem)")
    }

    guard let type = GGMLType(rawValue: info.type) else {
      throw FormatError(
        .unsupported, in: url,
        "the tensor \(quoted(info.name)) has the type number \(info.type), which is unknown",
        remedy: "Use the file of another quantization, such as Q8_0 or Q4_K_M")
    }
    let shape = info.dimensions.reversed().compactMap { Int(exactly: $0) }
    guard shape.count == info.dimensions.count, let elementCount = checkedElementCount(shape) else {
      throw fail("has the dimensions \(info.dimensions), which overflow")
    }
    guard (shape.last ?? 1) % type.blockElementCount == 0 else {
      throw fail(
        "of type \(type) has rows of \(shape.last ?? 1), not a multiple of its block of \(type.blockElementCount)"
      )
    }
    let (byteCount, tooLarge) = (elementCount / type.blockElementCount)
      .multipliedReportingOverflow(by: type.blockByteCount)
    guard !tooLarge else { throw fail("has the dimensions \(info.dimensions), which overflow") }
    guard info.offset % UInt64(alignment) == 0 else {
      throw fail("begins at offset \(info.offset), which is not a multiple of the alignment \(alignment)")
    }
    // An empty tensor has no place; at the end of a file its offset may lie behind it.
    guard byteCount > 0 else { return Entry(type: type, shape: shape, elementCount: 0, range: 0..<0) }
    guard let offset = Int(exactly: info.offset),
      case (let start, let startOverflows) = dataStart.addingReportingOverflow(offset), !startOverflows,
      case (let end, let endOverflows) = start.addingReportingOverflow(byteCount), !endOverflows,
      end <= file.count
    else {
      throw fail(
        "of \(byteCount) bytes at offset \(info.offset) reaches beyond the \(max(0, file.count - dataStart)) bytes of data"
      )
    }
    return Entry(type: type, shape: shape, elementCount: elementCount, range: start..<end)
  }

  private static func checkOverlaps(_ names: [String], _ entries: [String: Entry], _ url: URL) throws {
    let sorted = names.compactMap { name in entries[name].map { (name, $0.range) } }
      .filter { !$0.1.isEmpty }
      .sorted { $0.1.lowerBound < $1.1.lowerBound }
    for (earlier, later) in zip(sorted, sorted.dropFirst()) where later.1.lowerBound < earlier.1.upperBound {
      throw FormatError.malformed(url, "the tensors \(quoted(earlier.0)) and \(quoted(later.0)) overlap")
    }
  }
}
