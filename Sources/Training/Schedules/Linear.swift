/// Linear decay to 0 after linear warmup: `max(0, (S − s) / (S − W))`.
///
/// The default of transformers (`get_linear_schedule_with_warmup`).
public struct Linear: LearningRateSchedule {
  public static let name = "linear"

  private let run: ScheduledRun

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws { self.run = run }

  public func multiplier(at step: Int) -> Double {
    run.linearWarmup(at: step)
      ?? max(0, Double(run.trainingSteps - step) / Double(max(1, run.trainingSteps - run.warmupSteps)))
  }
}
