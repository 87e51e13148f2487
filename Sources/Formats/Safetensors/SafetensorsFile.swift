import Foundation
import JSON

/// A safetensors file, mapped into memory.
///
/// Format: 8 bytes of header length (little-endian), a JSON object of `name: {dtype, shape, data_offsets}` with an optional
/// `__metadata__` of strings, then the bytes of all tensors without gaps. What the reference implementation
/// (huggingface/safetensors) refuses is refused here: a header of more than 100 MB, lengths and offsets that do not
/// add up, gaps, overlaps, bytes behind the last tensor; and names that occur twice, of which it keeps one.
public struct SafetensorsFile: CheckpointReader {
  public let url: URL
  public let tensorNames: [String]
  public let metadata: [String: String]
  private let file: MappedFile
  private let entries: [String: Entry]

  private struct Entry: Sendable {
    var type: SafetensorsType
    var shape: [Int]
    var elementCount: Int
    var range: Range<Int>  // from the end of the header
  }

  /// More than this the reference implementation does not read either.
  static let maximumHeaderSize = 100_000_000

  /// Opens and checks the file. Nothing but the header is read.
  public init(_ url: URL) throws { try self.init(MappedFile(url)) }

  init(_ file: MappedFile) throws {
    self.file = file
    url = file.url
    let header = try Self.header(of: file)
    let dataStart = 8 + header.count
    let pairs = try Self.parse(header, url)

    var metadata: [String: String] = [:]
    var entries: [String: Entry] = [:]
    entries.reserveCapacity(pairs.count)
    var order: [(name: String, range: Range<Int>)] = []
    for pair in pairs {
      guard let name = pair[0]?.stringValue, let value = pair[1] else { continue }
      if name == "__metadata__" {
        metadata = try Self.metadata(value, url)
        continue
      }
      let entry = try Self.entry(name, value, url)
      guard entries.updateValue(entry, forKey: name) == nil else {
        throw FormatError.malformed(url, "the header names the tensor \(quoted(name)) twice")
      }
      order.append((name, entry.range))
    }
    order.sort { ($0.range.lowerBound, $0.range.upperBound) < ($1.range.lowerBound, $1.range.upperBound) }
    try Self.checkCoverage(order, dataCount: file.count - dataStart, url)
    self.metadata = metadata
    self.tensorNames = order.map(\.name)
    self.entries = entries
    self.dataStart = dataStart
  }

  private let dataStart: Int

  /// Whether the file begins as a safetensors file does: a plausible header length, then a brace.
  static func recognizes(_ file: MappedFile) -> Bool {
    guard let length = file.view.load(UInt64.self, at: 0), let brace = file.view.load(UInt8.self, at: 8)
    else {
      return file.url.pathExtension == "safetensors"  // let the reader say what is wrong
    }
    return file.url.pathExtension == "safetensors"
      || (length <= maximumHeaderSize && brace == UInt8(ascii: "{"))
  }

  public func advise(_ advice: MappedFile.Advice) { file.advise(advice) }

  public func contains(_ name: String) -> Bool { entries[name] != nil }

  public func storedTensor(_ name: String) throws -> StoredTensor {
    guard let entry = entries[name] else { throw missing(name) }
    try file.checkUnchanged()
    guard let bytes = file.view.slice(at: dataStart + entry.range.lowerBound, count: entry.range.count) else {
      preconditionFailure("the ranges were checked against the file's size when it was opened")
    }
    return StoredTensor(
      name: name, type: entry.type.stored, shape: entry.shape, elementCount: entry.elementCount, bytes: bytes,
      source: url)
  }

  // MARK: Header

  private static func header(of file: MappedFile) throws -> ByteView {
    guard let length = file.view.load(UInt64.self, at: 0) else {
      throw FormatError.malformed(
        file.url, "the file has \(file.count) bytes, too few for the length of a safetensors header")
    }
    guard length <= maximumHeaderSize else {
      throw FormatError.malformed(
        file.url,
        "the header claims \(length) bytes, more than the \(maximumHeaderSize) that the format allows",
        remedy: "This is no safetensors file, or it is damaged: download or export it again")
    }
    guard let header = file.view.slice(at: 8, count: Int(length)) else {
      throw FormatError.malformed(
        file.url,
        "the header claims \(length) bytes, but the file has only \(file.count - 8) after its length")
    }
    guard header.load(UInt8.self, at: 0) == UInt8(ascii: "{") else {
      throw FormatError.malformed(file.url, "the header does not begin with `{`")
    }
    return header
  }

  /// The members of the header as `[name, value]`. Pairs, because a dictionary would hide names that occur twice.
  private static func parse(_ header: ByteView, _ url: URL) throws -> [JSONValue] {
    do {
      let value = try JSONValue(
        parsing: header.withUnsafeBytes { Data($0) }, options: JSONParsingOptions(objectsAsPairs: [[]]))
      guard let pairs = value.arrayValue else {
        throw FormatError.malformed(url, "the header is \(value.kind), not an object")
      }
      return pairs
    } catch let error as JSONError {
      throw FormatError.malformed(url, "the header is not JSON: \(error)")
    }
  }

  private static func metadata(_ value: JSONValue, _ url: URL) throws -> [String: String] {
    if value.isNull { return [:] }
    guard let members = value.objectValue else {
      throw FormatError.malformed(url, "`__metadata__` is \(value.kind), not an object of strings")
    }
    var metadata: [String: String] = [:]
    for (key, value) in members {
      guard let text = value.stringValue else {
        throw FormatError.malformed(
          url, "`__metadata__` holds \(value.kind) under \(quoted(key)), not a string")
      }
      metadata[key] = text
    }
    return metadata
  }

  private static func entry(_ name: String, _ value: JSONValue, _ url: URL) throws -> Entry {
    func fail(_ problem: String) -> FormatError { .malformed(url, "the tensor \(quoted(name)) \(problem)") }

    guard let typeName = value["dtype"]?.stringValue else { throw fail("has no `dtype`") }
    guard let type = SafetensorsType(rawValue: typeName) else {
      throw FormatError(
        .unsupported, in: url, "the tensor \(quoted(name)) has the unknown dtype \(quoted(typeName))",
        remedy: "Convert it to one of \(SafetensorsType.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    guard let shape = integers(value["shape"]) else { throw fail("has no `shape` of non-negative integers") }
    guard let offsets = integers(value["data_offsets"]), offsets.count == 2 else {
      throw fail("has no `data_offsets` of two non-negative integers")
    }
    guard offsets[0] <= offsets[1] else {
      throw fail("ends at byte \(offsets[1]), before it begins at \(offsets[0])")
    }
    guard let elementCount = checkedElementCount(shape) else {
      throw fail("has the shape \(shape), which overflows")
    }
    guard let byteCount = type.byteCount(elementCount: elementCount) else {
      throw fail("has the shape \(shape), which as \(typeName) overflows or does not fill whole bytes")
    }
    guard byteCount == offsets[1] - offsets[0] else {
      throw fail(
        "of shape \(shape) and type \(typeName) needs \(byteCount) bytes, but its offsets span \(offsets[1] - offsets[0])"
      )
    }
    return Entry(type: type, shape: shape, elementCount: elementCount, range: offsets[0]..<offsets[1])
  }

  private static func integers(_ value: JSONValue?) -> [Int]? {
    guard let elements = value?.arrayValue else { return nil }
    var integers: [Int] = []
    integers.reserveCapacity(elements.count)
    for element in elements {
      guard case .integer(let integer) = element, integer >= 0 else { return nil }
      integers.append(integer)
    }
    return integers
  }

  /// The tensors, sorted, must cover the data from its first byte to its last, once.
  private static func checkCoverage(_ order: [(name: String, range: Range<Int>)], dataCount: Int, _ url: URL)
    throws
  {
    var end = 0
    for (name, range) in order {
      guard range.lowerBound == end else {
        let kind = range.lowerBound < end ? "overlaps the one before it" : "leaves a gap before it"
        throw FormatError.malformed(
          url,
          "the tensor \(quoted(name)) \(kind): it begins at byte \(range.lowerBound), the one before ends at \(end)"
        )
      }
      end = range.upperBound
      guard end <= dataCount else {
        throw FormatError.malformed(
          url,
          "the tensor \(quoted(name)) ends at byte \(end), but the file has only \(dataCount) bytes of data")
      }
    }
    guard end == dataCount else {
      throw FormatError.malformed(
        url, "the file has \(dataCount) bytes of data, but the tensors of its header take \(end)")
    }
  }
}
