import Files
import Foundation
import JSON

extension Safetensors {
  /// Writes `tensors` to `folder` as `model.safetensors`, or, when they are larger than `maximumShardSize`, as
  /// `model-00001-of-0000N.safetensors` … and `model.safetensors.index.json`, divided as transformers divides them: in the given order,
  /// a new shard when the next tensor would make the current one too large.
  ///
  /// All shards are written aside and made durable before the first takes its place, and the index comes last, after the
  /// removal of an older one; files of an earlier save that no longer belong are removed. A crash therefore never leaves an index over mixed
  /// shards. To replace a whole folder in one step, write into `AtomicDirectory`.
  ///
  /// - Returns: the files that were written, the index last.
  @discardableResult
  public static func writeSharded(
    _ tensors: [TensorToWrite], metadata: [String: String] = ["format": "pt"], to folder: URL,
    maximumShardSize: ShardSize = .standard, baseName: String = "model"
  ) throws -> [URL] {
    let shards = try divide(tensors, maximumShardSize: maximumShardSize, folder)
    let names = shards.indices.map { index in
      shards.count == 1
        ? "\(baseName).safetensors"
        : "\(baseName)-\(padded(index + 1))-of-\(padded(shards.count)).safetensors"
    }
    let index = folder.appendingPathComponent("\(baseName).safetensors.index.json")

    // Open all before writing any: a folder that cannot be written fails at once.
    let files = try names.map { try AtomicFile(folder.appendingPathComponent($0)) }
    do {
      for (file, shard) in zip(files, shards) {
        try write(shard, metadata: metadata, to: file)
        try file.finish()
      }
      var indexFile: AtomicFile?
      if shards.count > 1 {
        let file = try AtomicFile(index)
        try file.write(indexText(shards, names))
        try file.finish()
        indexFile = file
      }
      unlink(index.path)
      for file in files { try file.place() }
      try removeStale(in: folder, baseName: baseName, keeping: Set(names))
      try indexFile?.place()
    } catch {
      for file in files { file.discard() }
      throw error
    }
    return names.map { folder.appendingPathComponent($0) } + (shards.count > 1 ? [index] : [])
  }

  private static func divide(
    _ tensors: [TensorToWrite], maximumShardSize: ShardSize, _ folder: URL
  ) throws -> [[TensorToWrite]] {
    var shards: [[TensorToWrite]] = [[]]
    var size = 0
    var names: Set<String> = []
    for tensor in tensors {
      guard names.insert(tensor.name).inserted else {
        throw FormatError(
          .mismatch, in: folder, "two tensors would be written as \(quoted(tensor.name))",
          remedy: "Give every tensor its own name")
      }
      guard let count = tensor.byteCount, case (let sum, let overflow) = size.addingReportingOverflow(count),
        !overflow
      else {
        throw FormatError(
          .mismatch, in: folder,
          "the tensor \(quoted(tensor.name)) has the shape \(tensor.shape), which is not a size",
          remedy: "Check the shape")
      }
      if sum > maximumShardSize.byteCount, shards[shards.count - 1].isEmpty == false {
        shards.append([])
        size = 0
      }
      shards[shards.count - 1].append(tensor)
      size += count
    }
    return shards
  }

  private static func indexText(_ shards: [[TensorToWrite]], _ names: [String]) -> String {
    var map: [(String, JSONValue)] = []
    var bytes = 0
    var parameters = 0
    for (shard, name) in zip(shards, names) {
      for tensor in shard {
        map.append((tensor.name, .string(name)))
        bytes += tensor.byteCount ?? 0
        parameters += checkedElementCount(tensor.shape) ?? 0
      }
    }
    let index: JSONValue = [
      "metadata": ["total_parameters": .integer(parameters), "total_size": .integer(bytes)],
      "weight_map": .object(.init(uniqueKeysWithValues: map)),
    ]
    return index.serialized(indent: 2, sortedKeys: true) + "\n"
  }

  /// Removes the weights of an earlier save under the same base name: a loader would prefer them, or find too many.
  private static func removeStale(in folder: URL, baseName: String, keeping: Set<String>) throws {
    let entries = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    for entry in entries where !keeping.contains(entry) && isShardName(entry, baseName: baseName) {
      let stale = folder.appendingPathComponent(entry)
      guard unlink(stale.path) == 0 || errno == ENOENT else {
        throw FormatError.system(errno, stale, "remove the weights of an earlier save")
      }
    }
    try synchronizeFolder(folder)
  }

  /// `BASE.safetensors` or `BASE-00001-of-00002.safetensors`.
  private static func isShardName(_ name: String, baseName: String) -> Bool {
    guard name.hasPrefix(baseName), name.hasSuffix(".safetensors") else { return false }
    let middle = name.dropFirst(baseName.count).dropLast(".safetensors".count)
    return middle.isEmpty || middle.wholeMatch(of: /-[0-9]{5}-of-[0-9]{5}/) != nil
  }

  private static func padded(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 5 - digits.count)) + digits
  }
}
