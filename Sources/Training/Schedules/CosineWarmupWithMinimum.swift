/// Cosine decay to a minimum whose first step is already above 0.
///
/// Options: those of `cosine_with_min_lr` and `warmup_lr_rate` (the multiplier of step 0; without it step `s` of the
/// warmup has `(s + 1) / W`). transformers' `get_cosine_with_min_lr_schedule_with_warmup_lr_rate`.
public struct CosineWarmupWithMinimum: LearningRateSchedule {
  public static let name = "cosine_warmup_with_min_lr"

  private let run: ScheduledRun
  private let decay: CosineToMinimum
  private let warmupRate: Double?

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    self.run = run
    decay = try CosineToMinimum(run, options: &options)
    warmupRate = try options.number("warmup_lr_rate")
  }

  public func multiplier(at step: Int) -> Double {
    if step < run.warmupSteps {
      guard let warmupRate else { return Double(step + 1) / Double(max(1, run.warmupSteps)) }
      return warmupRate + (1 - warmupRate) * Double(step) / Double(max(1, run.warmupSteps - 1))
    }
    // One step ahead of `cosine_with_min_lr`, so that the last step trained has exactly the minimum.
    return decay.multiplier(progress: run.progress(at: step + 1))
  }
}
