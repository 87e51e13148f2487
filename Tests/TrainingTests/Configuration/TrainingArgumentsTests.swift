import Foundation
import JSON
import Testing
import Training

@Suite("Training arguments")
struct TrainingArgumentsTests {
  @Test("defaults are those of transformers and TRL")
  func defaults() throws {
    let reference = try #require(try Fixture.json("defaults.json").objectValue)
    var compared = 0
    for key in TrainingArguments.keys {
      guard let expected = reference[key.name] else { continue }
      let value = key.value(TrainingArguments())
      #expect(
        value == expected || value.doubleValue.map { $0 == expected.doubleValue } == true,
        "\(key.name): \(value.serialized()), reference \(expected.serialized())")
      compared += 1
    }
    #expect(compared >= 38)
  }

  @Test("encoding and decoding gives an equal value")
  func codableRoundTrip() throws {
    var arguments = TrainingArguments()
    arguments.learningRate = 1e-4
    arguments.evalSteps = 0.1
    arguments.warmupSteps = 30
    arguments.lrSchedulerType = "cosine_with_min_lr"
    arguments.lrSchedulerKwargs = ["min_lr_rate": 0.1]
    arguments.resumeFromCheckpoint = .latest
    arguments.reportTo = [.tensorboard, .jsonl]
    arguments.maxLength = nil
    arguments.seed = .max
    let data = try JSONEncoder().encode(arguments)
    #expect(try JSONDecoder().decode(TrainingArguments.self, from: data) == arguments)
    #expect(try JSONValue(parsing: data)["per_device_train_batch_size"] == 8)
  }

  @Test("absent keys decode to defaults, unknown ones do not decode")
  func decodingKeys() throws {
    let arguments = try JSONDecoder().decode(
      TrainingArguments.self, from: Data(#"{"learning_rate": 0.5}"#.utf8))
    #expect(arguments.learningRate == 0.5)
    #expect(arguments.adamBeta2 == 0.999)
    let error = #expect(throws: ConfigurationError.self) {
      try JSONDecoder().decode(TrainingArguments.self, from: Data(#"{"lerning_rate": 0.5}"#.utf8))
    }
    #expect(error?.description == "`lerning_rate` is not a configuration key; write `learning_rate`.")
  }

  static let invalid: [(String, @Sendable (inout TrainingArguments) -> Void, String)] = [
    ("learning_rate", { $0.learningRate = -1 }, "above 0"),
    ("learning_rate", { $0.learningRate = .nan }, "above 0"),
    ("max_steps", { $0.maxSteps = -2 }, "-1 to train for"),
    ("max_steps", { $0.maxSteps = 0 }, "-1 to train for"),
    ("num_train_epochs", { $0.numTrainEpochs = 0 }, "nothing is trained"),
    ("per_device_train_batch_size", { $0.perDeviceTrainBatchSize = 0 }, "1 or more"),
    ("per_device_eval_batch_size", { $0.perDeviceEvalBatchSize = -3 }, "1 or more"),
    ("gradient_accumulation_steps", { $0.gradientAccumulationSteps = 0 }, "1 or more"),
    ("weight_decay", { $0.weightDecay = -0.1 }, "0 or more"),
    ("max_grad_norm", { $0.maxGradNorm = -1 }, "0 or more"),
    ("adam_beta1", { $0.adamBeta1 = 1 }, "below 1"),
    ("adam_beta2", { $0.adamBeta2 = -0.1 }, "below 1"),
    ("adam_epsilon", { $0.adamEpsilon = 0 }, "1e-8"),
    ("max_length", { $0.maxLength = 1 }, "at least 2"),
    (
      "packing",
      {
        $0.packing = true
        $0.maxLength = nil
      }, "set `max_length`"
    ),
    (
      "packing",
      {
        $0.packing = true
        $0.trainSamplingStrategy = .groupByLength
      }, "keep either"
    ),
    ("save_total_limit", { $0.saveTotalLimit = 0 }, "1 or more"),
    ("logging_steps", { $0.loggingSteps = 0 }, "1 or more"),
    ("save_steps", { $0.saveSteps = .steps(-5) }, "1 or more"),
    ("eval_steps", { $0.evalSteps = .fraction(0) }, "between 0 and 1"),
    ("report_to", { $0.reportTo = [.none, .jsonl] }, "either `none`"),
    (
      "assistant_only_loss",
      {
        $0.completionOnlyLoss = true
        $0.assistantOnlyLoss = false
      }, "keep one"
    ),
    ("warmup_steps", { $0.warmupSteps = .steps(-1) }, "fraction below 1"),
    (
      "warmup_steps",
      {
        $0.warmupSteps = 20
        $0.maxSteps = 10
      }, "longer than the run"
    ),
    ("warmup_ratio", { $0.warmupRatio = 1.5 }, "from 0 to 1"),
    (
      "warmup_ratio",
      {
        $0.warmupRatio = 0.5
        $0.warmupSteps = 3
      }, "keep one"
    ),
    ("lr_scheduler_type", { $0.lrSchedulerType = "coseno" }, "write `cosine`"),
    ("lr_scheduler_kwargs", { $0.lrSchedulerKwargs = ["power": 1] }, "has no options"),
    ("lr_scheduler_type", { $0.lrSchedulerType = "warmup_stable_decay" }, "final decay"),
    ("early_stopping_patience", { $0.earlyStoppingPatience = 2 }, "eval_strategy"),
    (
      "early_stopping_patience",
      {
        $0.earlyStoppingPatience = 0
        $0.evalStrategy = .epoch
      }, "1 or more"
    ),
    ("save_strategy", { $0.saveStrategy = .best }, "eval_strategy"),
    ("load_best_model_at_end", { $0.loadBestModelAtEnd = true }, "needs evaluations"),
    (
      "load_best_model_at_end",
      {
        $0.loadBestModelAtEnd = true
        $0.evalStrategy = .epoch
      }, "the same for both"
    ),
    (
      "save_steps",
      {
        $0.loadBestModelAtEnd = true
        $0.evalStrategy = .steps
        $0.evalSteps = 30
        $0.saveSteps = 50
      },
      "not a multiple of 30"
    ),
    (
      "save_steps",
      {
        $0.loadBestModelAtEnd = true
        $0.evalStrategy = .steps
        $0.evalSteps = 0.1
        $0.saveSteps = 50
      },
      "mix steps and fractions"
    ),
  ]

  @Test("a value that cannot work is an error with its key and a remedy", arguments: invalid.indices)
  func invalidValues(index: Int) {
    let (key, change, fragment) = Self.invalid[index]
    var arguments = TrainingArguments()
    change(&arguments)
    let error = #expect(throws: ConfigurationError.self) { try arguments.validate(hasValidationData: true) }
    #expect(error?.key == key)
    #expect(error?.description.contains(fragment) == true, "\(error?.description ?? "")")
  }

  @Test("evaluation without validation data is an error")
  func evaluationWithoutData() {
    var arguments = TrainingArguments()
    arguments.evalStrategy = .epoch
    let error = #expect(throws: ConfigurationError.self) { try arguments.validate(hasValidationData: false) }
    #expect(error?.description.contains("`validation_file`") == true)
    arguments.evalStrategy = .no
    arguments.evalOnStart = true
    #expect(throws: ConfigurationError.self) { try arguments.validate(hasValidationData: false) }
  }

  @Test("fractions that are multiples of each other pass")
  func fractionMultiples() throws {
    var arguments = TrainingArguments()
    arguments.loadBestModelAtEnd = true
    arguments.evalStrategy = .steps
    arguments.evalSteps = 0.1
    arguments.saveSteps = 0.3
    try arguments.validate(hasValidationData: true)
  }

  @Test("the best metric knows its direction")
  func bestMetric() {
    var arguments = TrainingArguments()
    #expect(arguments.bestMetric == "eval_loss" && !arguments.bestMetricIsGreater)
    arguments.metricForBestModel = "exact_match"
    #expect(arguments.bestMetric == "eval_exact_match" && arguments.bestMetricIsGreater)
    arguments.metricForBestModel = "eval_perplexity"
    #expect(arguments.bestMetric == "eval_perplexity" && !arguments.bestMetricIsGreater)
  }
}
