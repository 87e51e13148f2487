import Datasets
import Foundation
import JSON
import Testing

@Suite struct BatchTests {
  private func lengths(_ count: Int, upTo longest: UInt64 = 100, seed: UInt64 = 3) -> [Int32] {
    var generator = ShuffleGenerator(seed: seed)
    return (0..<count).map { _ in Int32(1 + generator.below(longest)) }
  }

  @Test("a batch is its examples end to end")
  func batch() {
    let batch = Batch([
      Example(tokens: [1, 2, 3], labels: [1, -100, 3]), Example(tokens: [4], labels: [4]),
      Example(tokens: [5, 6], labels: [-100, 6]),
    ])
    #expect(batch.tokens == [1, 2, 3, 4, 5, 6])
    #expect(batch.labels == [1, -100, 3, 4, -100, 6])
    #expect(batch.positions == [0, 1, 2, 0, 0, 1])
    #expect(batch.offsets == [0, 3, 4, 6])
    #expect((batch.sequences, batch.maximumLength) == (3, 3))
    #expect(batch.supervisedTokens == 2)  // a sequence's first token is predicted from nothing
  }

  @Test("a batch is split between sequences, in few parts within the limit")
  func split() {
    let lengths: [Int32] = [3, 5, 2, 9, 1]
    let examples = lengths.map { count -> Example in
      let labels: [Int32] = (0..<count).map { $0 % 3 == 1 ? ignoreIndex : $0 }
      return Example(tokens: Array(10 * count..<11 * count), labels: labels)
    }
    let batch = Batch(examples)
    #expect(batch.split(maxTokens: 20) == [batch])
    #expect(
      batch.split(maxTokens: 8) == [
        Batch(Array(examples[0...1])), Batch([examples[2]]), Batch([examples[3]]), Batch([examples[4]]),
      ])
    // A sequence that is longer than the limit stands alone.
    #expect(batch.split(maxTokens: 1) == examples.map { Batch([$0]) })
    #expect(Batch([examples[3]]).split(maxTokens: 1) == [Batch([examples[3]])])
  }

  @Test("the largest part of a batch is as small as the number of parts lets it be")
  func balancedSplit() {
    let examples = [4, 4, 4, 4, 1, 1].map { (count: Int32) in
      Example(tokens: Array(0..<count), labels: Array(0..<count))
    }
    // Filled to the limit, it would be 12 and 6 tokens.
    #expect(
      Batch(examples).split(maxTokens: 12) == [Batch(Array(examples[0...1])), Batch(Array(examples[2...5]))])
  }

  @Test("what all sequences begin with is found, and counts once when a batch is split")
  func sharedPrefix() {
    func example(_ count: Int32, _ own: [Int32]) -> Example {
      Example(tokens: Array(0..<count) + own, labels: Array(0..<count) + own)
    }
    #expect(Batch([example(8, [50]), example(8, [60, 61]), example(8, [50, 51])]).sharedPrefix == 8)
    #expect(Batch([example(8, [50])]).sharedPrefix == 0)
    #expect(Batch([example(8, []), example(3, [])]).sharedPrefix == 2)  // one token of its own is left
    #expect(Batch([example(8, [1]), example(0, [7, 1])]).sharedPrefix == 0)
    #expect(Batch([]).sharedPrefix == 0)

    // 8 of 40 tokens are shared, of which each copy counts 2: rows of 4 + 2.
    let batch = Batch((0..<4).map { example(8, [50 + $0, 51, 52, 53]) })
    #expect(batch.rowsWithSharedPrefix == 48 - 3 * 6)
    #expect(batch.split(maxTokens: 12).map(\.sequences) == [1, 1, 1, 1])
    #expect(batch.split(maxTokens: 12, sharesPrefix: true).map(\.sequences) == [2, 2])
    #expect(batch.split(maxTokens: 24, sharesPrefix: true) == [batch])
  }

  @Test("the generator gives the numbers of its reference implementation")
  func generator() throws {
    let fixture = try Fixture.json("shuffle.json")
    for test in try #require(fixture.arrayValue) {
      let seed = try #require(test["seed"]?.stringValue.flatMap { UInt64($0) })
      let stream = UInt64(try #require(test["stream"]?.intValue))
      var numbers = ShuffleGenerator(seed: seed, stream: stream)
      #expect(String(numbers.next()) == test["numbers"]?[0]?.stringValue)
      var order = Array(0..<20)
      var generator = ShuffleGenerator(seed: seed, stream: stream)
      generator.shuffle(&order)
      #expect(order == test["shuffled"]?.arrayValue?.compactMap(\.intValue))
    }
  }

  static let options: [BatchingOptions] = [
    .init(perDeviceTrainBatchSize: 4), .init(perDeviceTrainBatchSize: 4, shuffles: false),
    .init(perDeviceTrainBatchSize: 4, groupByLength: true),
    .init(perDeviceTrainBatchSize: 2, packing: .bfd, maxLength: 128), .init(perDeviceTrainBatchSize: 1000),
  ]

  @Test("every epoch holds each example once, in batches no larger than asked for", arguments: options)
  func complete(options: BatchingOptions) throws {
    let plan = try DataPlan(lengths: lengths(203), options: options)
    for epoch in 0..<3 {
      let batches = plan.epoch(epoch)
      #expect(batches.flatMap { $0 }.sorted() == Array(0..<203))
      if options.packing == .none {
        #expect(batches.allSatisfy { $0.count <= options.perDeviceTrainBatchSize })
      }
      #expect(batches == plan.epoch(epoch))
      #expect((batches == plan.epoch(epoch + 1)) == !options.shuffles)
    }
  }

  @Test("packs hold at most max_length tokens and hardly waste any")
  func packing() throws {
    let lengths = lengths(2000)
    let plan = try DataPlan(
      lengths: lengths, options: .init(perDeviceTrainBatchSize: 1, packing: .bfd, maxLength: 128))
    let packs = plan.epoch(0)
    let sizes = packs.map { $0.reduce(0) { $0 + Int(lengths[Int($1)]) } }
    #expect(sizes.allSatisfy { $0 <= 128 })
    let total = lengths.reduce(0) { $0 + Int($1) }
    #expect(packs.count <= (total + 127) / 128 + 3)
    // Not longest first: the first packs are no longer than others.
    #expect(packs.prefix(20).map(\.count) != Array(packs.map(\.count).sorted().prefix(20)))
  }

  @Test("best-fit decreasing takes the fullest pack that has room")
  func bestFit() throws {
    let plan = try DataPlan(
      lengths: [60, 70, 40, 30, 10],
      options: .init(perDeviceTrainBatchSize: 1, packing: .bfd, maxLength: 100, shuffles: false))
    #expect(plan.epoch(0).map(Array.init) == [[1, 3], [0, 2], [4]])
  }

  @Test("group_by_length puts like with like and the longest first")
  func grouped() throws {
    let lengths = lengths(1000)
    let options = BatchingOptions(perDeviceTrainBatchSize: 8, groupByLength: true)
    let batches = try DataPlan(lengths: lengths, options: options).epoch(0)
    func spread(_ batches: EpochPlan) -> Int {
      batches.reduce(0) { sum, batch in
        let lengths = batch.map { Int(lengths[Int($0)]) }
        return sum + lengths.max()! - lengths.min()!
      }
    }
    let plain = try DataPlan(lengths: lengths, options: .init(perDeviceTrainBatchSize: 8)).epoch(0)
    #expect(spread(batches) * 5 < spread(plain))
    #expect(batches[0].first.map { lengths[Int($0)] } == lengths.max())
  }

  @Test("the last batch is left out on request")
  func dropLast() throws {
    let plan = try DataPlan(
      lengths: lengths(10), options: .init(perDeviceTrainBatchSize: 4, dataloaderDropLast: true))
    #expect(plan.epoch(0).map(\.count) == [4, 4])
  }

  @Test("plans that cannot be are errors")
  func refused() {
    #expect(dataError { _ = try DataPlan(lengths: [], options: .init()) }?.message == "there are no examples")
    #expect(dataError { _ = try DataPlan(lengths: [1], options: .init(perDeviceTrainBatchSize: 0)) } != nil)
    #expect(
      dataError { _ = try DataPlan(lengths: [1], options: .init(packing: .bfd)) }?.message
        == "packing needs max_length")
    #expect(
      dataError { _ = try DataPlan(lengths: [9], options: .init(packing: .bfd, maxLength: 8)) }?.message
        == "an example of 9 tokens does not fit into a pack of 8")
  }

  // MARK: Prefetching

  private func examples(_ count: Int) -> ExampleList {
    ExampleList(
      lengths(count).enumerated().map { index, length in
        let tokens = [Int32](repeating: Int32(index), count: Int(length))
        return Example(tokens: tokens, labels: tokens)
      })
  }

  @Test("a run that resumes at any position sees the batches that the other would have seen")
  func resume() async throws {
    let source = examples(50)
    let plan = try DataPlan(lengths: source.lengths, options: .init(perDeviceTrainBatchSize: 4))
    var steps: [PlannedBatches.Step] = []
    for try await step in PlannedBatches(plan, of: source, epochs: 3) { steps.append(step) }
    #expect(steps.count == 39)
    #expect(steps[13].position == DataPosition(epoch: 1, batch: 0))
    #expect(steps[12].next == DataPosition(epoch: 1))
    for start in [0, 1, 12, 13, 38] {
      var position = start
      for try await step in PlannedBatches(plan, of: source, from: steps[start].position, epochs: 3, ahead: 2)
      {
        #expect(step.batch == steps[position].batch)
        #expect(step.position == steps[position].position)
        position += 1
      }
      #expect(position == 39)
    }
    for try await _ in PlannedBatches(plan, of: source, from: steps[38].next, epochs: 3) {
      Issue.record("a finished run has no more batches")
    }
  }

  /// Counts what is asked of it.
  private actor Ledger {
    var asked = 0
    func ask() { asked += 1 }
  }

  private struct CountingSource: ExampleSource {
    let ledger: Ledger
    let lengths = [Int32](repeating: 1, count: 1000)
    func example(at index: Int) throws -> Example {
      Task { await ledger.ask() }
      if index == 999 { throw DataError("row 1000 is unreadable") }
      return Example(tokens: [Int32(index)], labels: [Int32(index)])
    }
  }

  @Test("no more batches are made than were asked for")
  func bounded() async throws {
    let ledger = Ledger()
    let source = CountingSource(ledger: ledger)
    let plan = try DataPlan(
      lengths: source.lengths, options: .init(perDeviceTrainBatchSize: 1, shuffles: false))
    var iterator = PlannedBatches(plan, of: source, epochs: 1, ahead: 3).makeAsyncIterator()
    for _ in 0..<5 { _ = try await iterator.next() }
    try await Task.sleep(for: .milliseconds(50))
    let asked = await ledger.asked
    #expect((5...7).contains(asked))
  }

  @Test("an error in a background task comes at its batch")
  func failure() async throws {
    let source = CountingSource(ledger: Ledger())
    let plan = try DataPlan(
      lengths: source.lengths, options: .init(perDeviceTrainBatchSize: 10, shuffles: false))
    var batches = 0
    await #expect(throws: DataError.self) {
      for try await _ in PlannedBatches(plan, of: source, epochs: 1) { batches += 1 }
    }
    #expect(batches == 99)
  }

  @Test("a cancelled consumer stops with CancellationError")
  func cancelled() async throws {
    let source = examples(200)
    let plan = try DataPlan(lengths: source.lengths, options: .init(perDeviceTrainBatchSize: 1))
    let consumer = Task {
      var batches = 0
      for try await _ in PlannedBatches(plan, of: source, epochs: 1_000_000) {
        batches += 1
        if batches == 10 { withUnsafeCurrentTask { $0?.cancel() } }
      }
    }
    await #expect(throws: CancellationError.self) { try await consumer.value }
  }
}
