/// A run cannot begin or go on.
///
/// The description says what is wrong, where, and what to do about it.
public struct TrainingError: Error, CustomStringConvertible, Sendable {
  public let message: String

  public init(_ message: String) {
    self.message = message
  }

  public var description: String { message }
}

/// The run was asked to stop and has saved what it had.
public struct TrainingInterrupted: Error, CustomStringConvertible, Sendable {
  /// Optimizer steps done.
  public let step: Int
  /// The checkpoint from which the run can go on; nil when it keeps none.
  public let checkpoint: String?

  public var description: String {
    guard step > 0 else { return "Stopped before the first step; there was nothing to save." }
    guard let checkpoint else {
      return
        "Stopped after step \(step). This run keeps nothing to go on from (save_strategy: no, or save_only_model)."
    }
    return "Stopped after step \(step) and saved \(checkpoint). Set `resume_from_checkpoint: true` (or run "
      + "`graft train … --resume`) to go on from there."
  }
}
