import JSON
import Torch

/// How a run trains: the settings of transformers' `TrainingArguments` and TRL's `SFTConfig`, with their names and
/// defaults.
///
/// Properties are the camel-case forms of the keys: `perDeviceTrainBatchSize` is `per_device_train_batch_size` in files.
/// The value is complete: nothing below it reads the environment.
public struct TrainingArguments: ConfigurationGroup {
  /// Where checkpoints, the adapter, logs and the plot go.
  public var outputDir = "trainer_output"

  // MARK: Length and batches

  /// Passes over the training data; fractions are allowed. `maxSteps` wins.
  public var numTrainEpochs = 3.0
  /// Optimizer steps; −1 leaves it to `numTrainEpochs`.
  public var maxSteps = -1
  /// Sequences (with packing: packed sequences) of one forward pass.
  public var perDeviceTrainBatchSize = 8
  /// Sequences of one forward pass in evaluation.
  public var perDeviceEvalBatchSize = 8
  /// Batches whose gradients one optimizer step sums; the loss is divided by all their supervised tokens.
  public var gradientAccumulationSteps = 1

  // MARK: Optimizer and schedule

  public var optim = OptimizerChoice.adamwTorch
  /// Further options of the optimizer: `momentum=0.9`.
  public var optimArgs: String?
  /// LoRA+: how many times A's learning rate B's is; nil is the same for both.
  public var loraplusLrRatio: Double?
  /// LoRA+: the learning rate of LoRA on embeddings.
  public var loraplusLrEmbedding = 1e-6
  /// LoRA+: decoupled weight decay, in place of ``weightDecay``.
  public var loraplusWeightDecay = 0.0
  public var learningRate = 5e-5
  /// Decoupled weight decay, never applied to biases and norms.
  public var weightDecay = 0.0
  public var adamBeta1 = 0.9
  public var adamBeta2 = 0.999
  public var adamEpsilon = 1e-8
  /// Gradients are scaled down to this global norm; 0 turns clipping off.
  public var maxGradNorm = 1.0
  /// A name of `ScheduleCatalogue`.
  public var lrSchedulerType = "linear"
  public var lrSchedulerKwargs: [String: JSONValue] = [:]
  public var warmupSteps: StepCount = 0
  /// Fraction of the run used for warmup: the older name of a fraction in `warmupSteps`.
  public var warmupRatio: Double?

  // MARK: Precision and memory

  /// Compute in bfloat16; trainable weights stay fp32.
  public var bf16 = false
  /// Compute in float16 with dynamic loss scaling; trainable weights stay fp32.
  public var fp16 = false
  public var gradientCheckpointing = false
  /// Tokens of one forward and backward pass; nil lets the device decide, 0 is no limit.
  public var maxTokensPerPass: Int?

  // MARK: Text

  /// Tokens of one sequence; nil leaves it to the model's context.
  public var maxLength: Int? = 1024
  public var truncationMode = TruncationMode.keepStart
  public var packing = false
  /// nil does as `packing` says.
  public var evalPacking: Bool?
  /// nil learns the response only, not the prompt.
  public var completionOnlyLoss: Bool?
  /// nil learns the assistant's turns only, unless `completionOnlyLoss` is false.
  public var assistantOnlyLoss: Bool?

  // MARK: Order of the data

  public var trainSamplingStrategy = SamplingStrategy.random
  public var dataloaderDropLast = false
  public var seed: UInt64 = 42
  /// Seed of the shuffling; nil takes `seed`.
  public var dataSeed: UInt64?

  // MARK: Evaluation

  public var evalStrategy = IntervalStrategy.no
  /// nil evaluates as often as `loggingSteps`.
  public var evalSteps: StepCount?
  /// Epochs or steps, by `evalStrategy`, before the first evaluation.
  public var evalDelay = 0.0
  public var evalOnStart = false
  public var loadBestModelAtEnd = false
  /// nil means the evaluation loss.
  public var metricForBestModel: String?
  /// nil decides by the metric: smaller is better for a loss, perplexity or squared error.
  public var greaterIsBetter: Bool?
  /// Evaluations without improvement after which the run stops.
  public var earlyStoppingPatience: Int?
  /// Improvements up to this count as none.
  public var earlyStoppingThreshold = 0.0

  // MARK: Saving

  public var saveStrategy = SaveStrategy.steps
  public var saveSteps: StepCount = 500
  public var saveTotalLimit: Int?
  /// Save the adapter alone, from which no run can be resumed.
  public var saveOnlyModel = false
  public var resumeFromCheckpoint: ResumePoint?

  // MARK: Logging

  public var loggingStrategy = IntervalStrategy.steps
  public var loggingSteps: StepCount = 500
  public var loggingFirstStep = false
  /// Folder of the TensorBoard files; nil is `runs` in `outputDir`.
  public var loggingDir: String?
  public var reportTo: [ReportTarget] = [.all]
  /// Title of the plot; nil is the name of `outputDir`.
  public var runName: String?
  /// No progress bar.
  public var disableTqdm = false

  public init() {}

  /// The settings that most programs choose; the others are properties, and all defaults are the properties'.
  public init(
    outputDir: String, numTrainEpochs: Double? = nil, maxSteps: Int? = nil,
    perDeviceTrainBatchSize: Int? = nil, gradientAccumulationSteps: Int? = nil, learningRate: Double? = nil,
    weightDecay: Double? = nil, lrSchedulerType: String? = nil, warmupSteps: StepCount? = nil,
    bf16: Bool? = nil, gradientCheckpointing: Bool? = nil, packing: Bool? = nil,
    evalStrategy: IntervalStrategy? = nil, evalSteps: StepCount? = nil, saveStrategy: SaveStrategy? = nil,
    saveSteps: StepCount? = nil, saveTotalLimit: Int? = nil, loggingSteps: StepCount? = nil,
    seed: UInt64? = nil
  ) {
    self.outputDir = outputDir
    func set<Value>(_ path: WritableKeyPath<Self, Value>, _ value: Value?) {
      if let value { self[keyPath: path] = value }
    }
    set(\.numTrainEpochs, numTrainEpochs)
    set(\.maxSteps, maxSteps)
    set(\.perDeviceTrainBatchSize, perDeviceTrainBatchSize)
    set(\.gradientAccumulationSteps, gradientAccumulationSteps)
    set(\.learningRate, learningRate)
    set(\.weightDecay, weightDecay)
    set(\.lrSchedulerType, lrSchedulerType)
    set(\.warmupSteps, warmupSteps)
    set(\.bf16, bf16)
    set(\.gradientCheckpointing, gradientCheckpointing)
    set(\.packing, packing)
    set(\.evalStrategy, evalStrategy)
    if let evalSteps { self.evalSteps = evalSteps }
    set(\.saveStrategy, saveStrategy)
    set(\.saveSteps, saveSteps)
    if let saveTotalLimit { self.saveTotalLimit = saveTotalLimit }
    set(\.loggingSteps, loggingSteps)
    set(\.seed, seed)
  }
}

extension TrainingArguments {
  /// Whether batches are made of rows of similar length.
  public var groupByLength: Bool { trainSamplingStrategy == .groupByLength }

  /// Whether prompts and the user's turns are learned too.
  public var trainsOnInputs: Bool { completionOnlyLoss == false || assistantOnlyLoss == false }

  /// The optimizer steps of warmup in a run of so many, as transformers counts them.
  public func warmupStepCount(ofTotal total: Int) -> Int {
    if let warmupRatio, warmupSteps == .steps(0) {
      return StepCount.fraction(warmupRatio).count(ofTotal: total)
    }
    return warmupSteps.count(ofTotal: total)
  }

  /// The schedule of a run of so many optimizer steps.
  ///
  /// - Throws: `ConfigurationError` when the schedule or one of its options does not exist or does not fit.
  public func schedule(ofTotal total: Int) throws -> any LearningRateSchedule {
    try ScheduleCatalogue.schedule(
      named: lrSchedulerType,
      for: ScheduledRun(
        learningRate: learningRate, warmupSteps: warmupStepCount(ofTotal: total), trainingSteps: total),
      options: lrSchedulerKwargs)
  }

  /// The most tokens of one pass on a device. 1,024 keep a CPU's matrix products as busy as more would, and their activations
  /// are few.
  public func maxTokensPerPass(on device: Device.Kind) -> Int {
    switch maxTokensPerPass {
    case nil: device == .cpu ? 1024 : .max
    case 0?: .max
    case let limit?: limit
    }
  }

  /// The metric that decides which checkpoint is best, as logs name it: with `eval_` before it.
  public var bestMetric: String {
    let name = metricForBestModel ?? "loss"
    return name.hasPrefix("eval_") ? name : "eval_" + name
  }

  /// Whether a larger value of that metric is better.
  public var bestMetricIsGreater: Bool {
    greaterIsBetter ?? !["loss", "perplexity", "mse"].contains { bestMetric.hasSuffix($0) }
  }

  /// Whether a sink is wanted.
  public func reports(to target: ReportTarget) -> Bool {
    !reportTo.contains(.none) && (reportTo.contains(.all) || reportTo.contains(target))
  }
}

/// `eval_strategy` and `logging_strategy`: when something happens.
public enum IntervalStrategy: String, ConfigurationChoice {
  case no, steps, epoch
}

/// `save_strategy`: when checkpoints are written.
public enum SaveStrategy: String, ConfigurationChoice {
  case no, steps, epoch
  /// After each evaluation that is the best so far.
  case best
}

/// `train_sampling_strategy`: the order of the training rows.
public enum SamplingStrategy: String, ConfigurationChoice {
  /// A new shuffle each epoch.
  case random
  /// The order of the file.
  case sequential
  /// Shuffled, with rows of similar length in one batch.
  case groupByLength = "group_by_length"
}

/// `truncation_mode`: what becomes of a row longer than `max_length`.
public enum TruncationMode: String, ConfigurationChoice {
  case keepStart = "keep_start"
  case keepEnd = "keep_end"
  case drop
  case error
}

/// `report_to`: the sinks beside the progress bar.
public enum ReportTarget: String, ConfigurationChoice {
  case all, none
  /// `metrics.jsonl`.
  case jsonl
  /// Event files for TensorBoard.
  case tensorboard
  /// `loss.svg`.
  case plot

  public init(_ node: ConfigurationNode, key: String) throws {
    guard case .scalar(let text, _) = node.content, let value = Self(rawValue: text) else {
      throw node.mismatch(
        key, expected: "one of \(Self.typeName)",
        remedy: "write some of them; other trackers can read the TensorBoard files")
    }
    self = value
  }
}

/// `resume_from_checkpoint`: the folder of a checkpoint, or the newest one in `output_dir`.
public enum ResumePoint: ConfigurationValue {
  case latest
  case directory(String)

  public static let typeName = "path, or `true` for the newest"

  public init(_ node: ConfigurationNode, key: String) throws {
    if node.boolean == true {
      self = .latest
    } else if node.boolean == nil, case .scalar(let path, _) = node.content, !path.isEmpty {
      self = .directory(path)
    } else {
      throw node.mismatch(
        key, expected: "a checkpoint",
        remedy: "write a folder, `true` for the newest in `output_dir`, or `null`")
    }
  }

  public var json: JSONValue {
    switch self {
    case .latest: .bool(true)
    case .directory(let path): .string(path)
    }
  }
}
