/// The base learning rate at every step; warmup is ignored, as in transformers.
public struct Constant: LearningRateSchedule {
  public static let name = "constant"

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {}

  public func multiplier(at step: Int) -> Double { 1 }
}
