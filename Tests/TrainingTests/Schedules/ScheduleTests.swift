import JSON
import Testing
import Training

@Suite("Learning-rate schedules")
struct ScheduleTests {
  @Test("every schedule gives the multipliers of transformers")
  func multipliersEqualTransformers() throws {
    let cases = try #require(try Fixture.json("schedules.json").arrayValue)
    var tested: Set<String> = []
    for example in cases {
      let name = try #require(example["name"]?.stringValue)
      let options = example["options"]?.objectValue ?? [:]
      let schedule = try ScheduleCatalogue.schedule(
        named: name,
        for: ScheduledRun(
          learningRate: try #require(example["learning_rate"]?.doubleValue),
          warmupSteps: try #require(example["warmup_steps"]?.intValue),
          trainingSteps: try #require(example["training_steps"]?.intValue)),
        options: Dictionary(uniqueKeysWithValues: options.map { ($0.key, $0.value) }))
      for (step, value) in (example["multipliers"]?.arrayValue ?? []).enumerated() {
        let expected = try #require(value.doubleValue)
        let multiplier = schedule.multiplier(at: step)
        #expect(
          abs(multiplier - expected) <= 1e-13,
          "\(name) \(options) at step \(step): \(multiplier), transformers \(expected)")
      }
      tested.insert(name)
    }
    #expect(tested == Set(ScheduleCatalogue.names))
  }

  @Test("names are unique")
  func namesAreUnique() {
    #expect(Set(ScheduleCatalogue.names).count == ScheduleCatalogue.all.count)
  }

  @Test(
    "wrong options are errors that name the remedy",
    arguments: [
      ("linear", ["power": 2] as [String: JSONValue], "has no options"),
      ("polynomial", ["pover": 2], "the options of `polynomial` are `lr_end`, `power`"),
      ("polynomial", ["lr_end": 1], "not below the learning rate"),
      ("cosine", ["num_cycles": "many"], "is not a finite number"),
      ("cosine_with_restarts", ["num_cycles": 0], "less than 1"),
      ("cosine_with_restarts", ["num_cycles": 1.5], "not a whole number"),
      ("cosine_with_min_lr", [:], "`min_lr` (a rate) or `min_lr_rate`"),
      ("cosine_with_min_lr", ["min_lr": 1e-5, "min_lr_rate": 0.1], "only one of the two"),
      ("warmup_stable_decay", [:], "how many steps the final decay takes"),
      ("warmup_stable_decay", ["num_decay_steps": 200], "shorten one of them"),
      ("warmup_stable_decay", ["num_decay_steps": 5, "decay_type": "sqrt"], "`linear`, `cosine`, `1-sqrt`"),
      ("inverse_sqrt", ["timescale": 0], "less than 1"),
      ("cosin", [:], "write `cosine`"),
      ("reduce_lr_on_plateau", [:], "evaluation results"),
    ])
  func optionErrors(name: String, options: [String: JSONValue], fragment: String) {
    let error = #expect(throws: ConfigurationError.self) {
      _ = try ScheduleCatalogue.schedule(
        named: name, for: ScheduledRun(learningRate: 1e-3, warmupSteps: 10, trainingSteps: 100),
        options: options)
    }
    #expect(error?.description.contains(fragment) == true, "\(error?.description ?? "")")
  }

  @Test("warmup counts as transformers counts it")
  func warmupCount() {
    var arguments = TrainingArguments()
    arguments.warmupSteps = 0.03
    #expect(arguments.warmupStepCount(ofTotal: 101) == 4)
    arguments.warmupSteps = 7
    #expect(arguments.warmupStepCount(ofTotal: 101) == 7)
    arguments.warmupSteps = 0
    arguments.warmupRatio = 0.1
    #expect(arguments.warmupStepCount(ofTotal: 101) == 11)
  }
}
