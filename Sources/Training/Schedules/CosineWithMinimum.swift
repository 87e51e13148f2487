import Foundation

/// Cosine decay to a minimum instead of 0, after linear warmup.
///
/// Options: exactly one of `min_lr` (a rate) and `min_lr_rate` (a fraction of the base rate), and `num_cycles` (0.5).
/// transformers' `get_cosine_with_min_lr_schedule_with_warmup`.
public struct CosineWithMinimum: LearningRateSchedule {
  public static let name = "cosine_with_min_lr"

  private let run: ScheduledRun
  private let decay: CosineToMinimum

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    self.run = run
    decay = try CosineToMinimum(run, options: &options)
  }

  public func multiplier(at step: Int) -> Double {
    run.linearWarmup(at: step) ?? decay.multiplier(progress: run.progress(at: step))
  }
}

/// The falling part that the two cosine schedules with a minimum share.
struct CosineToMinimum: Sendable {
  let cycles: Double
  let minimum: Double

  init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    cycles = try options.number("num_cycles") ?? 0.5
    switch (try options.number("min_lr"), try options.number("min_lr_rate")) {
    case (let rate?, nil):
      guard run.learningRate > 0 else {
        throw options.invalid(
          "min_lr", "needs a learning rate above 0", remedy: "set `learning_rate`, or write `min_lr_rate`")
      }
      minimum = rate / run.learningRate
    case (nil, let fraction?): minimum = fraction
    case (nil, nil):
      throw options.invalid(
        "min_lr", "is missing",
        remedy: "write `min_lr` (a rate) or `min_lr_rate` (a fraction of `learning_rate`)")
    case (_?, _?):
      throw options.invalid("min_lr", "stands beside `min_lr_rate`", remedy: "write only one of the two")
    }
    guard (0...1).contains(minimum) else {
      throw options.invalid(
        "min_lr", "is not between 0 and the learning rate", remedy: "choose a minimum within that range")
    }
  }

  func multiplier(progress: Double) -> Double {
    let factor = 0.5 * (1 + cos(.pi * cycles * 2 * progress))
    return max(0, factor * (1 - minimum) + minimum)
  }
}
