import Foundation
import JSON

/// Several files of weights and the index that says which tensor lies where: `model.safetensors.index.json` or
/// `pytorch_model.bin.index.json`.
///
/// All files are opened at once, so that a missing one is noticed before the first tensor is read.
public struct ShardedCheckpoint: CheckpointReader {
  /// The index.
  public let url: URL
  public let tensorNames: [String]
  public let metadata: [String: String]
  private let shards: [any CheckpointReader]
  private let locations: [String: Int]

  /// Opens the index at `url` and every file that it names, which must lie in the same folder.
  ///
  /// - Throws: `FormatError` when a file is missing, a tensor is not in the file that the index names, or a name leaves the folder.
  public init(index url: URL) throws {
    self.url = url
    let folder = url.deletingLastPathComponent()
    let map = try Self.weightMap(url)

    var positions: [String: Int] = [:]
    var shards: [any CheckpointReader] = []
    for (name, file) in map where positions[file] == nil {
      try Self.checkFileName(file, of: name, url)
      let shard = folder.appendingPathComponent(file)
      guard FileManager.default.fileExists(atPath: shard.path) else {
        throw FormatError(
          .notFound, in: url,
          "the file \(quoted(file)), which the index names for \(quoted(name)), is missing",
          remedy: "Download it into the same folder")
      }
      // Before opening it: an index that names itself would be opened for ever.
      guard !file.hasSuffix(".index.json") else {
        throw FormatError.malformed(
          url, "the index names another index, \(quoted(file)), for \(quoted(name))")
      }
      positions[file] = shards.count
      shards.append(try Checkpoint.open(shard))
    }

    var locations: [String: Int] = [:]
    for (name, file) in map {
      guard let position = positions[file] else { continue }
      guard shards[position].contains(name) else {
        let actual = shards.first { $0.contains(name) }?.url.lastPathComponent
        throw FormatError.malformed(
          url,
          "the tensor \(quoted(name)) is not in \(quoted(file)), where the index says it is"
            + (actual.map { ", but in \(quoted($0))" } ?? ", nor in any other file"),
          remedy: "The index belongs to other files: download index and files again")
      }
      locations[name] = position
    }
    // What the files hold beyond the index is there too, as for transformers, which goes by the files.
    var names: [String] = []
    var metadata: [String: String] = [:]
    for (position, shard) in shards.enumerated() {
      for name in shard.tensorNames {
        if locations[name] == nil { locations[name] = position }
        if locations[name] == position { names.append(name) }
      }
      metadata.merge(shard.metadata) { first, _ in first }
    }
    self.shards = shards
    self.locations = locations
    self.tensorNames = names
    self.metadata = metadata
  }

  public func advise(_ advice: MappedFile.Advice) { for shard in shards { shard.advise(advice) } }

  public func contains(_ name: String) -> Bool { locations[name] != nil }

  public func storedTensor(_ name: String) throws -> StoredTensor {
    guard let position = locations[name] else { throw missing(name) }
    return try shards[position].storedTensor(name)
  }

  private static func weightMap(_ url: URL) throws -> [(name: String, file: String)] {
    let file = try MappedFile(url)
    guard file.count <= SafetensorsFile.maximumHeaderSize else {
      throw FormatError.malformed(url, "the index has \(file.count) bytes, more than any index needs")
    }
    let index: JSONValue
    do { index = try JSONValue(parsing: file.view.withUnsafeBytes { Data($0) }) } catch {
      throw FormatError.malformed(url, "the index is not JSON: \(error)")
    }
    guard let members = index["weight_map"]?.objectValue else {
      throw FormatError.malformed(url, "the index has no object `weight_map`")
    }
    guard !members.isEmpty else { throw FormatError.malformed(url, "the `weight_map` of the index is empty") }
    return try members.map { name, value in
      guard let file = value.stringValue else {
        throw FormatError.malformed(
          url, "the index has \(value.kind) for \(quoted(name)), not the name of a file")
      }
      return (name, file)
    }
  }

  /// Shards lie beside their index. Anything else would let a downloaded index read files elsewhere.
  private static func checkFileName(_ file: String, of name: String, _ url: URL) throws {
    let isPlain =
      !file.isEmpty && file != "." && file != ".."
      && file.utf8.allSatisfy { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "\\") && $0 != 0 }
    guard isPlain else {
      throw FormatError(
        .unsafe, in: url,
        "the index names \(quoted(file)) for \(quoted(name)), which is not the plain name of a file",
        remedy: "Files of weights must lie in the same folder as their index")
    }
  }
}
