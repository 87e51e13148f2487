import Foundation

/// Cosine decay that starts again `num_cycles` times (1), after linear warmup.
///
/// transformers' `get_cosine_with_hard_restarts_schedule_with_warmup`; Loshchilov and Hutter, "SGDR", arXiv 1608.03983.
public struct CosineWithRestarts: LearningRateSchedule {
  public static let name = "cosine_with_restarts"

  private let run: ScheduledRun
  private let cycles: Double

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    self.run = run
    cycles = Double(try options.integer("num_cycles") ?? 1)
    guard cycles >= 1 else {
      throw options.invalid("num_cycles", "is less than 1", remedy: "write the number of descents, 1 or more")
    }
  }

  public func multiplier(at step: Int) -> Double {
    if let warmup = run.linearWarmup(at: step) { return warmup }
    let progress = run.progress(at: step)
    if progress >= 1 { return 0 }
    return max(0, 0.5 * (1 + cos(.pi * (cycles * progress).truncatingRemainder(dividingBy: 1))))
  }
}
