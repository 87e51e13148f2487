/// How examples are put into batches.
public struct BatchingOptions: Sendable, Codable, Hashable {
  public enum Packing: String, Sendable, Codable, CaseIterable {
    /// An example is one of the batch's ``BatchingOptions/perDeviceTrainBatchSize``.
    case none
    /// A pack of up to ``BatchingOptions/maxLength`` tokens is one of them: best-fit decreasing.
    case bfd
  }

  /// Examples (or packs) a batch.
  public var perDeviceTrainBatchSize: Int
  public var packing: Packing
  /// Put examples of about the same length into a batch, so that all steps take about the same time.
  public var groupByLength: Bool
  /// How many tokens a pack holds; needed for packing only.
  public var maxLength: Int?
  /// Another order each epoch; otherwise the file's order.
  public var shuffles: Bool
  /// Leave out the last batch of an epoch when it is smaller than the others.
  public var dataloaderDropLast: Bool
  public var seed: UInt64

  public init(
    perDeviceTrainBatchSize: Int = 8, packing: Packing = .none, groupByLength: Bool = false,
    maxLength: Int? = nil, shuffles: Bool = true, dataloaderDropLast: Bool = false, seed: UInt64 = 42
  ) {
    self.perDeviceTrainBatchSize = perDeviceTrainBatchSize
    self.packing = packing
    self.groupByLength = groupByLength
    self.maxLength = maxLength
    self.shuffles = shuffles
    self.dataloaderDropLast = dataloaderDropLast
    self.seed = seed
  }
}

/// A place in the run: the batch that comes next.
public struct DataPosition: Sendable, Codable, Hashable {
  /// From 0.
  public var epoch: Int
  /// Within the epoch, from 0.
  public var batch: Int

  public init(epoch: Int = 0, batch: Int = 0) {
    self.epoch = epoch
    self.batch = batch
  }
}

/// Which examples go into which batch, for every epoch.
///
/// The plan is a function of the lengths, the options and the epoch alone. A run that resumes at a
/// ``DataPosition`` takes the batch from there; nothing has to be replayed.
public struct DataPlan: Sendable {
  public let options: BatchingOptions
  private let lengths: [Int32]

  /// - Parameter lengths: of the examples, in tokens.
  /// - Throws: ``DataError`` for options that cannot be, or examples that fit into no pack.
  public init(lengths: [Int32], options: BatchingOptions) throws {
    guard options.perDeviceTrainBatchSize > 0 else {
      throw DataError(
        "per_device_train_batch_size is \(options.perDeviceTrainBatchSize)",
        remedy: "A batch holds at least one example")
    }
    guard !lengths.isEmpty else {
      throw DataError("there are no examples", remedy: "Check the data file and what was dropped from it")
    }
    if options.packing == .bfd {
      guard let maxLength = options.maxLength, maxLength > 0 else {
        throw DataError("packing needs max_length", remedy: "Set max_length to the tokens a pack may hold")
      }
      if let longest = lengths.max(), longest > maxLength {
        throw DataError(
          "an example of \(longest) tokens does not fit into a pack of \(maxLength)",
          remedy: "Truncate or drop long examples, or raise max_length")
      }
      guard !options.groupByLength else {
        throw DataError(
          "packing and group_by_length exclude each other",
          remedy: "Leave group_by_length out: packs are all about max_length long")
      }
    }
    self.lengths = lengths
    self.options = options
  }

  public var examples: Int { lengths.count }

  /// The batches of one epoch, counted from 0.
  public func epoch(_ epoch: Int) -> EpochPlan {
    var order = Array(0..<Int32(lengths.count))
    var generator = ShuffleGenerator(seed: options.seed, stream: UInt64(epoch))
    if options.shuffles { generator.shuffle(&order) }
    let size = options.perDeviceTrainBatchSize
    var plan = EpochPlan()
    switch options.packing {
    case .bfd:
      var packs = BestFitDecreasing.packs(
        of: order, lengths: lengths, capacity: options.maxLength ?? 0)
      // Packs come out longest first; training should not see them so.
      if options.shuffles { generator.shuffle(&packs) }
      for start in stride(from: 0, to: packs.count, by: size) {
        let end = min(start + size, packs.count)
        if options.dataloaderDropLast && end - start < size { break }
        plan.append(packs[start..<end].joined())
      }
    case .none:
      if options.groupByLength { groupByLength(&order) }
      for start in stride(from: 0, to: order.count, by: size) {
        let end = min(start + size, order.count)
        if options.dataloaderDropLast && end - start < size { break }
        plan.append(order[start..<end])
      }
    }
    return plan
  }

  /// Sorts runs of up to 50 batches by length, longest first, and puts the run with the longest example at
  /// the front, so that the memory a run needs shows in its first step (transformers' `group_by_length`).
  private func groupByLength(_ order: inout [Int32]) {
    let size = options.perDeviceTrainBatchSize
    let run = max(1, min(order.count / (size * 4), 50)) * size
    var longest = (length: Int32(-1), start: 0)
    for start in stride(from: 0, to: order.count, by: run) {
      let range = start..<min(start + run, order.count)
      // The place breaks ties: Swift's sort is stable only by accident of its implementation.
      let sorted = order[range].enumerated().sorted {
        let (left, right) = (lengths[Int($0.element)], lengths[Int($1.element)])
        return left == right ? $0.offset < $1.offset : left > right
      }
      order.replaceSubrange(range, with: sorted.map(\.element))
      let length = lengths[Int(order[start])]
      if length > longest.length { longest = (length, start) }
    }
    // Only whole runs change places; the short last one stays where it is.
    if longest.start + run <= order.count {
      for offset in 0..<run { order.swapAt(offset, longest.start + offset) }
    } else {
      order.swapAt(0, longest.start)
    }
  }
}

/// The batches of one epoch: for each, the indices of its examples.
public struct EpochPlan: Sendable, Hashable, RandomAccessCollection {
  // Flat, because ten million rows make a million small arrays otherwise.
  private var order: [Int32] = []
  private var ends: [Int] = []

  public var startIndex: Int { 0 }
  public var endIndex: Int { ends.count }

  public subscript(batch: Int) -> ArraySlice<Int32> {
    order[(batch == 0 ? 0 : ends[batch - 1])..<ends[batch]]
  }

  fileprivate mutating func append(_ batch: some Sequence<Int32>) {
    order.append(contentsOf: batch)
    ends.append(order.count)
  }
}
