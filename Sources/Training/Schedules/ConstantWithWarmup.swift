/// The base learning rate after linear warmup.
///
/// transformers' `get_constant_schedule_with_warmup`.
public struct ConstantWithWarmup: LearningRateSchedule {
  public static let name = "constant_with_warmup"

  private let run: ScheduledRun

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws { self.run = run }

  public func multiplier(at step: Int) -> Double { run.linearWarmup(at: step) ?? 1 }
}
