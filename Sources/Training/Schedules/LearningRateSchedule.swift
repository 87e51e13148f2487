import JSON

/// A learning-rate schedule: a pure function from the optimizer step to a multiplier of the base learning rate.
///
/// Step `s` (from 0) is trained with `learningRate × multiplier(at: s)`, as a `LambdaLR` of transformers does it. A
/// schedule keeps no state, so that resuming needs nothing but the step.
public protocol LearningRateSchedule: Sendable {
  /// The value of `lr_scheduler_type` that chooses the schedule.
  static var name: String { get }

  /// Builds the schedule of one run.
  ///
  /// - Throws: `ConfigurationError` when an option is missing, of the wrong type or out of range.
  init(_ run: ScheduledRun, options: inout ScheduleOptions) throws

  /// The factor of the base learning rate at an optimizer step.
  func multiplier(at step: Int) -> Double
}

/// What every schedule may depend on: the length of the run and its base learning rate.
public struct ScheduledRun: Hashable, Sendable {
  /// The base learning rate, which schedules with an absolute minimum need.
  public var learningRate: Double
  /// Optimizer steps of linear warmup.
  public var warmupSteps: Int
  /// Optimizer steps of the whole run.
  public var trainingSteps: Int

  public init(learningRate: Double, warmupSteps: Int, trainingSteps: Int) {
    self.learningRate = learningRate
    self.warmupSteps = warmupSteps
    self.trainingSteps = trainingSteps
  }

  /// The rising part that most schedules share: from 0 at step 0 to 1 at step `warmupSteps`; nil after it.
  func linearWarmup(at step: Int) -> Double? {
    step < warmupSteps ? Double(step) / Double(max(1, warmupSteps)) : nil
  }

  /// How much of the time after warmup has passed: 0 at its start, 1 at the last step, more after it.
  func progress(at step: Int) -> Double {
    Double(step - warmupSteps) / Double(max(1, trainingSteps - warmupSteps))
  }
}

/// The values of `lr_scheduler_kwargs`, read one by one; what no schedule asked for is an error in the end.
public struct ScheduleOptions: Sendable {
  private let schedule: String
  private var unread: [String: JSONValue]
  private var known: [String] = []

  public init(_ values: [String: JSONValue], schedule: String) {
    self.schedule = schedule
    unread = values
  }

  /// Takes a number, or nil when the option is absent or null.
  mutating func number(_ name: String) throws -> Double? {
    switch take(name) {
    case nil, .null: return nil
    case .integer(let value): return Double(value)
    case .number(let value) where value.isFinite: return value
    default: throw invalid(name, "is not a finite number", remedy: "write a number")
    }
  }

  /// Takes a whole number, or nil when the option is absent or null.
  mutating func integer(_ name: String) throws -> Int? {
    guard let value = try number(name) else { return nil }
    guard let whole = Int(exactly: value) else {
      throw invalid(name, "is not a whole number", remedy: "write a whole number")
    }
    return whole
  }

  /// Takes one of the given words, or nil when the option is absent or null.
  mutating func word<Word: RawRepresentable<String> & CaseIterable>(
    _ name: String, as type: Word.Type = Word.self
  ) throws -> Word? {
    let choices = Word.allCases.map { "`\($0.rawValue)`" }.joined(separator: ", ")
    switch take(name) {
    case nil, .null: return nil
    case .string(let text):
      guard let word = Word(rawValue: text) else {
        throw invalid(name, "is `\(text)`", remedy: "write one of \(choices)")
      }
      return word
    default: throw invalid(name, "is not a word", remedy: "write one of \(choices)")
    }
  }

  /// Refuses the options that the schedule does not have.
  func finish() throws {
    guard let name = unread.keys.min() else { return }
    let remedy =
      known.isEmpty
      ? "remove `lr_scheduler_kwargs`, `\(schedule)` has no options"
      : "the options of `\(schedule)` are \(known.map { "`\($0)`" }.joined(separator: ", "))"
    throw invalid(name, "is not an option of the schedule", remedy: remedy)
  }

  /// An error about one option.
  func invalid(_ name: String, _ problem: String, remedy: String) -> ConfigurationError {
    ConfigurationError(
      "`\(name)` in `lr_scheduler_kwargs` of `lr_scheduler_type: \(schedule)` \(problem)", remedy: remedy)
  }

  private mutating func take(_ name: String) -> JSONValue? {
    known.append(name)
    return unread.removeValue(forKey: name)
  }
}
