/// Encodes whole data files, on all cores, a stretch of rows at a time.
public struct DatasetEncoder: Sendable {
  public let encoder: ExampleEncoder
  public let rowFormat: RowFormatOptions

  /// Rows that are read before they are encoded together: what is in memory at once.
  private static let stretch = 2048

  public init(_ encoder: ExampleEncoder, rowFormat: RowFormatOptions = .init()) {
    self.encoder = encoder
    self.rowFormat = rowFormat
  }

  /// The examples of files, one after the other, in memory.
  ///
  /// - Parameter limit: how many rows are read at most (`max_train_samples`).
  /// - Parameter progress: called now and then with what has been done so far.
  /// - Throws: ``DataError``, also when no row can be trained on; `CancellationError`.
  public func examples(
    of files: [DataFile], limit: Int? = nil, progress: (@Sendable (EncodingReport) -> Void)? = nil
  ) async throws -> (examples: ExampleList, report: EncodingReport) {
    var examples: [Example] = []
    var report = EncodingReport()
    for file in files {
      try await encode(file, limit: limit, into: &report, progress: progress) { examples.append($0) }
    }
    try report.check(files.map(\.path).joined(separator: ", "))
    return (ExampleList(examples), report)
  }

  /// The examples of files from a cache in `folder`, which is made first unless it is there already.
  ///
  /// Memory stays flat however large the files are.
  ///
  /// - Throws: ``TokenCacheNotWritten`` when the cache cannot be made, ``DataError`` about the data, `CancellationError`.
  public func cachedExamples(
    of files: [DataFile], limit: Int? = nil, in folder: String,
    progress: (@Sendable (EncodingReport) -> Void)? = nil
  ) async throws -> (examples: TokenCache, report: EncodingReport) {
    guard rowFormat.labels == nil else {
      throw DataError(
        "a token cache keeps no labels of whole texts", at: files.first.map { .init(file: $0.path) },
        remedy: "Encode labelled rows in memory, with examples(of:)")
    }
    let key = try TokenCache.Key(files: files, limit: limit, encoder: encoder, rowFormat: rowFormat)
    let path = folder + "/" + key.fileName
    // A cache that is damaged or from another version is made again: it holds nothing of its own.
    if let cache = try? TokenCache(path, key: key) {
      TokenCache.markUsed(path)
      return (cache, cache.report)
    }
    TokenCache.removeUnused(in: folder)
    let writer = try written { try TokenCache.Writer(path, key: key) }
    var report = EncodingReport()
    for file in files {
      try await encode(file, limit: limit, into: &report, progress: progress) { example in
        try written { try writer.append(example) }
      }
    }
    try report.check(files.map(\.path).joined(separator: ", "))
    return try written {
      try writer.commit(report)
      return (try TokenCache(path, key: key), report)
    }
  }

  private func written<Result>(_ body: () throws -> Result) throws -> Result {
    do {
      return try body()
    } catch {
      throw TokenCacheNotWritten(reason: "\(error)")
    }
  }

  private func encode(
    _ file: DataFile, limit: Int?, into report: inout EncodingReport,
    progress: (@Sendable (EncodingReport) -> Void)?, sink: (Example) throws -> Void
  ) async throws {
    let reader = try file.reader()
    var format: (any RowFormat)?
    var rows: [Row] = []
    repeat {
      try Task.checkCancellation()
      rows.removeAll(keepingCapacity: true)
      let wanted = min(Self.stretch, (limit ?? .max) - report.rows)
      while rows.count < wanted, let row = try reader.next() { rows.append(row) }
      guard let first = rows.first else { break }
      let rowFormat = try format ?? RowFormats.format(for: first, options: rowFormat)
      format = rowFormat
      for outcome in try await outcomes(of: rows, as: rowFormat) {
        if let example = report.count(outcome) { try sink(example) }
      }
      progress?(report)
    } while rows.count == Self.stretch
  }

  /// The outcomes in the rows' order, though several tasks work on them.
  private func outcomes(of rows: [Row], as format: any RowFormat) async throws -> [ExampleEncoder.Outcome] {
    let part = 128
    let encoder = encoder
    return try await withThrowingTaskGroup(of: (Int, [ExampleEncoder.Outcome]).self) { group in
      for start in stride(from: 0, to: rows.count, by: part) {
        let slice = rows[start..<min(start + part, rows.count)]
        group.addTask {
          let outcomes = try slice.map { row in
            try Task.checkCancellation()
            return try encoder.encode(format.sample(from: row), at: row.location)
          }
          return (start, outcomes)
        }
      }
      var parts: [(Int, [ExampleEncoder.Outcome])] = []
      for try await part in group { parts.append(part) }
      return parts.sorted { $0.0 < $1.0 }.flatMap(\.1)
    }
  }
}

/// A token cache cannot be made, for instance because the disk is full: nothing is wrong with the data, and they can be encoded without.
public struct TokenCacheNotWritten: Error, CustomStringConvertible {
  public let reason: String
  public var description: String { "the token cache cannot be written: \(reason)" }
}
