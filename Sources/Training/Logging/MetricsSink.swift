/// A place where the metrics of a run go: a file, a plot, the terminal.
///
/// The trainer owns its sinks and calls them from one task. An error of a sink ends the run: metrics that silently stop
/// are found missing when it is too late.
public protocol MetricsSink: AnyObject {
  /// Called after every optimizer step, with the values of that step.
  func step(_ report: StepReport) throws
  /// Called at the logging steps, with means since the last record.
  func record(_ report: StepReport) throws
  /// Called for a step that updated nothing, before ``step(_:)``.
  func record(_ report: SkippedStepReport) throws
  /// Called after every evaluation.
  func record(_ report: EvaluationReport) throws
  /// Called once after the last step, or when the run is interrupted.
  func finish() throws
}

extension MetricsSink {
  public func step(_ report: StepReport) throws {}
  public func record(_ report: SkippedStepReport) throws {}
  public func finish() throws {}
}

/// A file of metrics that cannot be written or read.
public struct LoggingError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What failed, the file included, without a full stop.
  public var problem: String
  /// What to do about it, without a full stop.
  public var remedy: String

  public init(_ problem: String, remedy: String) {
    self.problem = problem
    self.remedy = remedy
  }

  public var description: String { "\(problem); \(remedy)." }
}
