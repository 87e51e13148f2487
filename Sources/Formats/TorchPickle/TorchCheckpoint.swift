import Foundation

/// A checkpoint that `torch.save` wrote, `.bin` or `.pt`: a ZIP archive of a pickle and the storages it refers to, mapped
/// into memory, or the older format of one file of pickles followed by the storages. No code of the file is run, see `Unpickler`.
///
/// Nested dictionaries and lists are flattened: `{"model": {"a": tensor}}` has the tensor `model.a`. Numbers and
/// strings become `metadata` under the same kind of name.
public struct TorchCheckpoint: CheckpointReader {
  public let url: URL
  public let tensorNames: [String]
  public let metadata: [String: String]
  private let file: MappedFile
  private let entries: [String: Entry]

  private struct Entry: Sendable {
    var type: StoredType
    var elementByteCount: Int
    var shape: [Int]
    var strides: [Int]
    var elementCount: Int
    /// From the tensor's first element to its last in memory.
    var bytes: ByteView
    var isContiguous: Bool
  }

  /// How deeply dictionaries and lists may nest, and how many values they may hold, all taken together: far beyond real checkpoints.
  private static let maximumDepth = 32
  private static let maximumValues = 1_000_000
  private static let maximumNameLength = 1024  // UTF-8

  /// Opens the file and reads its pickle.
  public init(_ url: URL) throws { try self.init(MappedFile(url)) }

  init(_ file: MappedFile) throws {
    self.file = file
    url = file.url
    var contents = Contents(url: file.url, fileSize: file.count)
    if file.view.load(UInt32.self, at: 0) == Self.zipMagic {
      try Self.readArchive(file, &contents)
    } else if Self.isLegacy(file.view) {
      try Self.readLegacy(file, &contents)
    } else {
      throw FormatError(
        .unsupported, in: file.url, "this is neither a ZIP archive nor a pickle of torch.save",
        remedy: "Save the checkpoint again with torch.save, or as safetensors")
    }
    tensorNames = contents.names
    metadata = contents.metadata
    entries = contents.entries
  }

  private static let zipMagic: UInt32 = 0x0403_4B50
  /// A pickle of the number 0x1950a86a20f9469cfc6c, with which the older format begins.
  private static let legacyMagic: [UInt8] = [
    0x80, 0x02, 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E,
  ]

  private static func isLegacy(_ view: ByteView) -> Bool {
    view.slice(at: 0, count: legacyMagic.count)?.withUnsafeBytes { $0.elementsEqual(legacyMagic) } ?? false
  }

  static func recognizes(_ file: MappedFile) -> Bool {
    file.view.load(UInt32.self, at: 0) == zipMagic || isLegacy(file.view)
      || ["bin", "pt", "pth"].contains(file.url.pathExtension)  // let the reader say what is wrong
  }

  public func advise(_ advice: MappedFile.Advice) { file.advise(advice) }

  public func contains(_ name: String) -> Bool { entries[name] != nil }

  /// The tensor of this name. One that is not contiguous (a transposed or expanded view) is copied.
  public func storedTensor(_ name: String) throws -> StoredTensor {
    guard let entry = entries[name] else { throw missing(name) }
    try file.checkUnchanged()
    return StoredTensor(
      name: name, type: entry.type, shape: entry.shape, elementCount: entry.elementCount,
      bytes: entry.isContiguous ? entry.bytes : Self.gather(entry), source: url)
  }

  // MARK: The two layouts

  private static func readArchive(_ file: MappedFile, _ contents: inout Contents) throws {
    let url = file.url
    let archive = try ZipDirectory(file)
    guard let pickleName = archive.names.first(where: { $0.hasSuffix("/data.pkl") }),
      let pickle = archive[pickleName]
    else {
      throw FormatError(
        .unsupported, in: url, "the ZIP archive has no entry `…/data.pkl`, so torch.save did not write it",
        remedy: "Name the file of weights itself")
    }
    let prefix = pickleName.dropLast("data.pkl".count)
    if archive.names.contains(prefix + "constants.pkl") {
      throw FormatError(
        .unsupported, in: url, "this is a TorchScript program, not a dictionary of tensors",
        remedy: "Save `module.state_dict()` with torch.save")
    }
    if let order = archive[prefix + "byteorder"], !order.withUnsafeBytes({ $0.elementsEqual("little".utf8) })
    {
      throw FormatError(
        .unsupported, in: url, "the checkpoint was written on a big-endian machine",
        remedy: "Load and save it on a little-endian one")
    }
    var unpickler = Unpickler(pickle, url: url)
    try unpickler.load { value in
      try contents.collect(value) { storage in archive["\(prefix)data/\(storage.key)"] }
    }
  }

  /// Magic, protocol and system information, the object, the list of keys, then for each key a count and the elements.
  private static func readLegacy(_ file: MappedFile, _ contents: inout Contents) throws {
    let url = file.url
    var position = legacyMagic.count
    func next<R>(_ body: (PickleValue) throws -> R) throws -> R {
      var unpickler = Unpickler(file.view, at: position, url: url)
      let result = try unpickler.load(body)
      position = unpickler.position
      return result
    }
    try next { value in
      guard value.integer == 1001 else {
        throw FormatError.malformed(url, "the version of its format is not 1001")
      }
    }
    try next { value in
      guard case .mapping(let information) = value else {
        throw FormatError.malformed(url, "the description of the system that wrote it is \(value.kind)")
      }
      for (key, value) in information.pairs where key.string == "little_endian" {
        guard case .bool(true) = value else {
          throw FormatError(
            .unsupported, in: url, "the checkpoint was written on a big-endian machine",
            remedy: "Load and save it on a little-endian one")
        }
      }
    }
    // The object comes before the storages, whose sizes its own references give.
    let objectStart = position
    var storages: [String: PickleStorage] = [:]
    try next { value in
      try Contents.walk(value, url) { _, value in
        if case .tensor(let tensor) = value { storages[tensor.storage.key] = tensor.storage }
      }
    }
    let keys = try next { value in
      guard let keys = value.sequence?.compactMap(\.string) else {
        throw FormatError.malformed(url, "the list of its storages is \(value.kind)")
      }
      return keys
    }
    var views: [String: ByteView] = [:]
    for key in keys {
      guard let storage = storages[key] else {
        throw FormatError(
          .unsupported, in: url,
          "it holds the storage \(quoted(key)), which no tensor of the dictionary uses",
          remedy: "Save the checkpoint again with a current PyTorch")
      }
      let size = storage.type?.byteCount ?? 1
      guard let count = file.view.load(Int64.self, at: position), count == storage.elementCount,
        case (let byteCount, let overflow) = Int(count).multipliedReportingOverflow(by: size), !overflow,
        let view = file.view.slice(at: position + 8, count: byteCount)
      else { throw FormatError.malformed(url, "the storage \(quoted(key)) does not fit into the file") }
      views[key] = view
      position += 8 + byteCount
    }
    var unpickler = Unpickler(file.view, at: objectStart, url: url)
    try unpickler.load { value in try contents.collect(value) { storage in views[storage.key] } }
  }

  // MARK: Tensors

  /// What a pickle's value comes down to.
  private struct Contents {
    let url: URL
    let fileSize: Int
    var names: [String] = []
    var entries: [String: Entry] = [:]
    var metadata: [String: String] = [:]

    init(url: URL, fileSize: Int) {
      self.url = url
      self.fileSize = fileSize
    }

    mutating func collect(_ value: PickleValue, _ bytes: (PickleStorage) -> ByteView?) throws {
      switch value {
      case .mapping, .sequence: break
      default:
        throw FormatError(
          .unsupported, in: url, "the checkpoint is \(value.kind), not a dictionary of tensors",
          remedy: "Save `module.state_dict()` with torch.save")
      }
      try Self.walk(value, url) { name, value in
        switch value {
        case .tensor(let tensor):
          guard let view = bytes(tensor.storage) else {
            throw FormatError.malformed(url, "the storage of the tensor \(quoted(name)) is missing")
          }
          let entry = try entry(name, tensor, view)
          guard entries.updateValue(entry, forKey: name) == nil else {
            throw FormatError.malformed(url, "the tensor \(quoted(name)) occurs twice")
          }
          names.append(name)
        case .bool(let flag): metadata[name] = flag ? "true" : "false"
        case .integer(let number): metadata[name] = "\(number)"
        case .float(let number): metadata[name] = "\(number)"
        case .string(let text): metadata[name] = text
        default: break  // None, types: nothing that weights or their description consist of
        }
      }
    }

    /// Calls `visit` for everything that is not a dictionary or list, with the path of keys that leads to it.
    static func walk(
      _ root: PickleValue, _ url: URL, _ visit: (_ path: String, PickleValue) throws -> Void
    ) throws {
      var visited = 0
      func descend(_ value: PickleValue, _ path: String, _ depth: Int) throws {
        visited += 1
        guard depth <= maximumDepth, visited <= maximumValues, path.utf8.count <= maximumNameLength else {
          throw FormatError.malformed(
            url,
            "the checkpoint nests more than \(maximumDepth) deep, holds more than \(maximumValues) values, or names one"
              + " with more than \(maximumNameLength) bytes")
        }
        func extended(_ key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
        switch value {
        case .mapping(let mapping):
          for (key, value) in mapping.pairs {
            switch key {
            case .string(let key): try descend(value, extended(key), depth + 1)
            case .integer(let key): try descend(value, extended(String(key)), depth + 1)
            default:
              throw FormatError(
                .unsupported, in: url, "the checkpoint has \(key.kind) as the key of a dictionary",
                remedy: "Save a dictionary of tensors by name")
            }
          }
        case .sequence(let sequence):
          for (index, value) in sequence.elements.enumerated() {
            try descend(value, extended(String(index)), depth + 1)
          }
        default: try visit(path, value)
        }
      }
      try descend(root, "", 0)
    }

    private func entry(_ name: String, _ tensor: PickleTensor, _ storage: ByteView) throws -> Entry {
      func fail(_ problem: String) -> FormatError { .malformed(url, "the tensor \(quoted(name)) \(problem)") }
      guard tensor.shape.count == tensor.strides.count, let elementCount = checkedElementCount(tensor.shape)
      else {
        throw fail("has the shape \(tensor.shape) and the strides \(tensor.strides), which do not fit")
      }
      guard tensor.offset >= 0, tensor.strides.allSatisfy({ $0 >= 0 }) else {
        throw fail("has a negative offset or stride")
      }
      let size = tensor.type.byteCount
      var span = elementCount == 0 ? 0 : 1
      if elementCount > 0 {
        for (dimension, stride) in zip(tensor.shape, tensor.strides) {
          let (step, overflow) = (dimension - 1).multipliedReportingOverflow(by: stride)
          let (sum, carry) = span.addingReportingOverflow(step)
          guard !overflow, !carry else { throw fail("has strides that overflow") }
          span = sum
        }
      }
      let (start, startOverflows) = tensor.offset.multipliedReportingOverflow(by: size)
      let (count, countOverflows) = span.multipliedReportingOverflow(by: size)
      guard !startOverflows, !countOverflows,
        let bytes = storage.slice(at: elementCount == 0 ? 0 : start, count: count)
      else { throw fail("reaches beyond its storage of \(storage.count) bytes") }

      let isContiguous = Self.isContiguous(tensor.shape, tensor.strides)
      let (total, totalOverflows) = elementCount.multipliedReportingOverflow(by: size)
      // An expanded tensor (stride 0) can claim any size; real ones repeat a little.
      guard !totalOverflows, isContiguous || total <= max(1 << 30, fileSize) else {
        throw fail(
          "of shape \(tensor.shape) would take \(elementCount) elements out of a file of \(fileSize) bytes")
      }
      return Entry(
        type: tensor.type.stored, elementByteCount: size, shape: tensor.shape, strides: tensor.strides,
        elementCount: elementCount, bytes: bytes, isContiguous: isContiguous)
    }

    private static func isContiguous(_ shape: [Int], _ strides: [Int]) -> Bool {
      if shape.contains(0) { return true }
      var expected = 1
      for (dimension, stride) in zip(shape, strides).reversed() where dimension != 1 {
        guard stride == expected else { return false }
        expected *= dimension
      }
      return true
    }
  }

  /// The elements of a strided tensor in row-major order.
  private static func gather(_ entry: Entry) -> ByteView {
    let size = entry.elementByteCount
    let memory = HeapBytes(count: entry.elementCount * size) { target in
      entry.bytes.withUnsafeBytes { source in
        guard let source = source.baseAddress, let target = target.baseAddress else { return }
        var index = Array(repeating: 0, count: entry.shape.count)
        var offset = 0
        for element in 0..<entry.elementCount {
          (target + element * size).copyMemory(from: source + offset * size, byteCount: size)
          var axis = index.count - 1
          while axis >= 0 {
            index[axis] += 1
            offset += entry.strides[axis]
            if index[axis] < entry.shape[axis] { break }
            offset -= index[axis] * entry.strides[axis]
            index[axis] = 0
            axis -= 1
          }
        }
      }
    }
    return ByteView(memory)
  }
}
