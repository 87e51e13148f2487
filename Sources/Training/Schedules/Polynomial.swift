import Foundation

/// Polynomial decay from the base rate to `lr_end` (1e-7) with exponent `power` (1), after linear warmup.
///
/// transformers' `get_polynomial_decay_schedule_with_warmup`.
public struct Polynomial: LearningRateSchedule {
  public static let name = "polynomial"

  private let run: ScheduledRun
  private let endRate: Double
  private let power: Double

  public init(_ run: ScheduledRun, options: inout ScheduleOptions) throws {
    self.run = run
    endRate = try options.number("lr_end") ?? 1e-7
    power = try options.number("power") ?? 1
    guard endRate < run.learningRate else {
      throw options.invalid(
        "lr_end", "is \(endRate), not below the learning rate \(run.learningRate)",
        remedy: "write a smaller `lr_end` or a larger `learning_rate`")
    }
  }

  public func multiplier(at step: Int) -> Double {
    if let warmup = run.linearWarmup(at: step) { return warmup }
    if step > run.trainingSteps { return endRate / run.learningRate }
    let remaining = 1 - run.progress(at: step)
    return ((run.learningRate - endRate) * pow(remaining, power) + endRate) / run.learningRate
  }
}
