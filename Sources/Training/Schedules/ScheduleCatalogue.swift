import JSON

/// Every learning-rate schedule, by the name that `lr_scheduler_type` gives it.
public enum ScheduleCatalogue {
  /// The schedules, in the order in which messages list them.
  public static let all: [any LearningRateSchedule.Type] = [
    Linear.self, Cosine.self, CosineWithRestarts.self, Polynomial.self, Constant.self,
    ConstantWithWarmup.self,
    InverseSquareRoot.self, CosineWithMinimum.self, CosineWarmupWithMinimum.self, WarmupStableDecay.self,
  ]

  /// Their names.
  public static var names: [String] { all.map { $0.name } }

  /// Builds the schedule of a run.
  ///
  /// - Parameters:
  ///   - name: a value of `lr_scheduler_type`.
  ///   - run: base learning rate, warmup and length.
  ///   - options: `lr_scheduler_kwargs`.
  /// - Throws: `ConfigurationError` for an unknown name, an unknown or unfit option, and a run of impossible length.
  public static func schedule(
    named name: String, for run: ScheduledRun, options values: [String: JSONValue] = [:]
  ) throws -> any LearningRateSchedule {
    guard let type = all.first(where: { $0.name == name }) else { throw unknown(name) }
    guard run.warmupSteps >= 0, run.trainingSteps >= 0 else {
      throw ConfigurationError(
        "a schedule of \(run.trainingSteps) steps with \(run.warmupSteps) warmup steps is impossible",
        remedy: "give numbers of steps that are not negative")
    }
    var options = ScheduleOptions(values, schedule: name)
    let schedule = try type.init(run, options: &options)
    try options.finish()
    return schedule
  }

  /// The error about a name that is not in the catalogue.
  static func unknown(_ name: String) -> ConfigurationError {
    if ["reduce_lr_on_plateau", "greedy"].contains(name) {
      // Both follow a metric, so that the rate at a step is no function of the step.
      return ConfigurationError(
        "`lr_scheduler_type: \(name)` changes the rate by evaluation results, which Graft does not do",
        remedy: "choose one of \(names.joined(separator: ", "))")
    }
    let nearest = NearestKey.suggestion(for: name, among: names)
    return ConfigurationError(
      "`\(name)` is not a learning-rate schedule",
      remedy: (nearest.map { "write `\($0)`, or " } ?? "choose ") + "one of \(names.joined(separator: ", "))")
  }
}
