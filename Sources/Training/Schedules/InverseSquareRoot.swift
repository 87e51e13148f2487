import Foundation

/// Decay with the inverse square root of the step, after linear warmup: `1 / √((s + t − W) / t)`.
///
/// Option `timescale` t (the warmup steps, or 10,000 without warmup). transformers' `get_inverse_sqrt_schedule`.
public struct InverseSquareRoot: LearningRateSchedule {
  public static let name = "inverse_sqrt"

  private let run: ScheduledRun
  private let timescale: Double

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    self.run = run
    timescale = Double(
      try options.integer("timescale") ?? (run.warmupSteps == 0 ? 10_000 : run.warmupSteps))
    guard timescale >= 1 else {
      throw options.invalid("timescale", "is less than 1", remedy: "write a number of steps, 1 or more")
    }
  }

  public func multiplier(at step: Int) -> Double {
    if let warmup = run.linearWarmup(at: step) { return warmup }
    let shift = timescale - Double(run.warmupSteps)
    return 1 / ((Double(step) + shift) / timescale).squareRoot()
  }
}
