import Foundation

/// Cosine decay after linear warmup: `(1 + cos(2π · cycles · progress)) / 2`.
///
/// Option `num_cycles` (0.5: one half wave, down to 0). transformers' `get_cosine_schedule_with_warmup`; Loshchilov and
/// Hutter, "SGDR", arXiv 1608.03983, without the restarts.
public struct Cosine: LearningRateSchedule {
  public static let name = "cosine"

  private let run: ScheduledRun
  private let cycles: Double

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    self.run = run
    cycles = try options.number("num_cycles") ?? 0.5
  }

  public func multiplier(at step: Int) -> Double {
    run.linearWarmup(at: step) ?? max(0, 0.5 * (1 + cos(.pi * cycles * 2 * run.progress(at: step))))
  }
}
