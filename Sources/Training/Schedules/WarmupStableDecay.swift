import Foundation

/// Warmup, a plateau at the base rate, and decay.
///
/// Options: `num_decay_steps` (required), `num_stable_steps` (what remains of the run), `warmup_type` (`linear`) and
/// `decay_type` (`cosine`), each `linear`, `cosine` or `1-sqrt`, `min_lr_ratio` (0) and `num_cycles` (0.5).
/// transformers' `get_wsd_schedule`; Hu et al., "MiniCPM", arXiv 2404.06395.
public struct WarmupStableDecay: LearningRateSchedule {
  public static let name = "warmup_stable_decay"

  private enum Shape: String, CaseIterable {
    case linear, cosine
    case oneMinusSquareRoot = "1-sqrt"
  }

  private let run: ScheduledRun
  private let stableSteps: Int
  private let decaySteps: Int
  private let warmupShape: Shape
  private let decayShape: Shape
  private let minimum: Double
  private let cycles: Double

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    self.run = run
    guard let decaySteps = try options.integer("num_decay_steps"), decaySteps >= 0 else {
      throw options.invalid(
        "num_decay_steps", "is missing or negative", remedy: "write how many steps the final decay takes")
    }
    let remaining = run.trainingSteps - run.warmupSteps - decaySteps
    self.decaySteps = decaySteps
    stableSteps = try options.integer("num_stable_steps") ?? remaining
    warmupShape = try options.word("warmup_type") ?? .linear
    decayShape = try options.word("decay_type") ?? .cosine
    minimum = try options.number("min_lr_ratio") ?? 0
    cycles = try options.number("num_cycles") ?? 0.5
    guard stableSteps >= 0 else {
      throw options.invalid(
        "num_decay_steps",
        "and the warmup take \(run.warmupSteps + decaySteps) steps of a run of \(run.trainingSteps)",
        remedy: "shorten one of them")
    }
    guard (0...1).contains(minimum) else {
      throw options.invalid("min_lr_ratio", "is \(minimum)", remedy: "write a fraction between 0 and 1")
    }
  }

  public func multiplier(at step: Int) -> Double {
    if step < run.warmupSteps {
      let progress = Double(step) / Double(max(1, run.warmupSteps))
      let factor =
        switch warmupShape {
        case .linear: progress
        case .cosine: 0.5 * (1 - cos(.pi * progress))
        case .oneMinusSquareRoot: 1 - (1 - progress).squareRoot()
        }
      return max(0, factor * (1 - minimum) + minimum)
    }
    let decayStep = step - run.warmupSteps - stableSteps
    if decayStep < 0 { return 1 }
    if decayStep >= decaySteps { return minimum }
    let progress = Double(decayStep) / Double(max(1, decaySteps))
    let factor =
      switch decayShape {
      case .linear: 1 - progress
      case .cosine: 0.5 * (1 + cos(.pi * cycles * 2 * progress))
      case .oneMinusSquareRoot: 1 - progress.squareRoot()
      }
    return max(0, factor * (1 - minimum) + minimum)
  }
}
