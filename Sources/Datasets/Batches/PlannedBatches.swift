/// The batches of a run from a position on, made ahead of their use in background tasks.
///
/// ```swift
/// for try await step in PlannedBatches(plan, of: source, from: position, epochs: 3) {
///   train(step.batch)
///   position = step.next
/// }
/// ```
///
/// At most `ahead` batches exist that were not yet asked for. They come in the plan's order however the tasks
/// finish. When the consumer is cancelled or lets go of the iterator, the tasks are cancelled.
public struct PlannedBatches: AsyncSequence, Sendable {
  /// A batch, and the places of it and of the one after it.
  public struct Step: Sendable {
    public let batch: Batch
    public let position: DataPosition
    /// Where a run continues that was stopped after this batch.
    public let next: DataPosition
  }

  private let plan: DataPlan
  private let source: any ExampleSource
  private let start: DataPosition
  private let epochs: Int
  private let ahead: Int

  /// - Parameters:
  ///   - source: the examples whose lengths the plan was made from.
  ///   - start: the first batch.
  ///   - epochs: after how many epochs, counted from the run's beginning, the sequence ends.
  ///   - ahead: how many batches are made before they are asked for.
  public init(
    _ plan: DataPlan, of source: any ExampleSource, from start: DataPosition = .init(), epochs: Int,
    ahead: Int = 4
  ) {
    precondition(ahead > 0)
    self.plan = plan
    self.source = source
    self.start = start
    self.epochs = epochs
    self.ahead = ahead
  }

  public func makeAsyncIterator() -> Iterator {
    Iterator(walk: Walk(plan: plan, position: start, epochs: epochs), source: source, ahead: ahead)
  }

  public struct Iterator: AsyncIteratorProtocol {
    fileprivate var walk: Walk
    fileprivate let source: any ExampleSource
    fileprivate let ahead: Int
    fileprivate let window = Window()

    public mutating func next() async throws -> Step? {
      try Task.checkCancellation()
      while window.tasks.count < ahead, let (indices, position, next) = walk.advance() {
        let source = source
        window.tasks.append(
          Task.detached {
            var examples: [Example] = []
            for index in indices {
              try Task.checkCancellation()
              examples.append(try source.example(at: Int(index)))
            }
            return Step(batch: Batch(examples), position: position, next: next)
          })
      }
      guard !window.tasks.isEmpty else { return nil }
      let task = window.tasks.removeFirst()
      return try await withTaskCancellationHandler {
        try await task.value
      } onCancel: {
        task.cancel()
      }
    }
  }

  /// The batches under way. A class, so that they are cancelled when the iterator goes.
  fileprivate final class Window {
    var tasks: [Task<Step, any Error>] = []

    deinit { for task in tasks { task.cancel() } }
  }

  /// Goes through the plan and holds the epoch at hand.
  fileprivate struct Walk {
    let plan: DataPlan
    var position: DataPosition
    let epochs: Int
    var current: (epoch: Int, plan: EpochPlan)?

    init(plan: DataPlan, position: DataPosition, epochs: Int) {
      self.plan = plan
      self.position = position
      self.epochs = epochs
    }

    mutating func advance() -> (indices: ArraySlice<Int32>, position: DataPosition, next: DataPosition)? {
      while position.epoch < epochs {
        let epoch: EpochPlan
        if let current, current.epoch == position.epoch {
          epoch = current.plan
        } else {
          epoch = plan.epoch(position.epoch)
          current = (position.epoch, epoch)
        }
        guard position.batch < epoch.count else {
          position = DataPosition(epoch: position.epoch + 1)
          if epoch.isEmpty { return nil }  // no epoch has a batch: the data are fewer than one batch
          continue
        }
        let here = position
        position.batch += 1
        if position.batch == epoch.count { position = DataPosition(epoch: here.epoch + 1) }
        return (epoch[here.batch], here, position)
      }
      return nil
    }
  }
}
