extension TrainingArguments {
  /// Checks every value and combination, so that a run that cannot work fails before its first step.
  ///
  /// - Parameter hasValidationData: whether the run has data to evaluate on.
  /// - Throws: `ConfigurationError` about the first key that does not fit.
  public func validate(hasValidationData: Bool) throws {
    try validateNumbers()
    _ = try updateRule()
    try require(
      !(bf16 && fp16), "fp16", "stands beside `bf16`", "keep one of the two; `bf16` where the device has it")
    try validateMemory()
    try validateSchedule()
    try validateEvaluation(hasValidationData: hasValidationData)
    try validateBestModel()
  }

  private func validateNumbers() throws {
    try require(!outputDir.isEmpty, "output_dir", "is empty", "write the folder that the run may fill")
    try require(
      numTrainEpochs > 0 || maxSteps > 0, "num_train_epochs",
      "is \(numTrainEpochs), so that nothing is trained",
      "write a number above 0, or set `max_steps`")
    try require(
      maxSteps == -1 || maxSteps > 0, "max_steps", "is \(maxSteps)",
      "write a number above 0, or -1 to train for `num_train_epochs`")
    try require(atLeastOne: perDeviceTrainBatchSize, "per_device_train_batch_size")
    try require(atLeastOne: perDeviceEvalBatchSize, "per_device_eval_batch_size")
    try require(atLeastOne: gradientAccumulationSteps, "gradient_accumulation_steps")
    try require(
      learningRate > 0 && learningRate.isFinite, "learning_rate", "is \(learningRate)",
      "write a number above 0, such as 2e-4 for LoRA")
    try require(notNegative: weightDecay, "weight_decay")
    if let loraplusLrRatio {
      try require(
        loraplusLrRatio > 0 && loraplusLrRatio.isFinite, "loraplus_lr_ratio", "is \(loraplusLrRatio)",
        "write a number above 0, such as 16, or `null`")
    }
    try require(notNegative: loraplusLrEmbedding, "loraplus_lr_embedding")
    try require(notNegative: loraplusWeightDecay, "loraplus_weight_decay")
    try require(notNegative: maxGradNorm, "max_grad_norm")
    try require(notNegative: evalDelay, "eval_delay")
    try require(notNegative: earlyStoppingThreshold, "early_stopping_threshold")
    for (key, beta) in [("adam_beta1", adamBeta1), ("adam_beta2", adamBeta2)] {
      try require((0..<1).contains(beta), key, "is \(beta)", "write a number from 0 to below 1")
    }
    try require(
      adamEpsilon > 0, "adam_epsilon", "is \(adamEpsilon)", "write a small number above 0, such as 1e-8")
    if let maxLength {
      try require(
        maxLength >= 2, "max_length", "is \(maxLength)",
        "write at least 2 tokens: one to read and one to predict, or `null`")
    }
    try require(
      maxLength != nil || !packing, "packing", "needs a length to fill, but `max_length` is null",
      "set `max_length`")
    try require(
      !packing || trainSamplingStrategy != .groupByLength, "packing",
      "leaves no rows to group by length",
      "keep either `packing` or `train_sampling_strategy: group_by_length`")
    if let maxTokensPerPass {
      try require(
        maxTokensPerPass >= 0, "max_tokens_per_pass", "is \(maxTokensPerPass)",
        "write a number of tokens, 0 for no limit, or `null`")
    }
    if let saveTotalLimit { try require(atLeastOne: saveTotalLimit, "save_total_limit") }
    if let earlyStoppingPatience { try require(atLeastOne: earlyStoppingPatience, "early_stopping_patience") }
    try require(positive: loggingSteps, "logging_steps")
    try require(positive: saveSteps, "save_steps")
    if let evalSteps { try require(positive: evalSteps, "eval_steps") }
    try require(
      !(reportTo.contains(.none) && reportTo.count > 1), "report_to", "holds `none` beside others",
      "write either `none` or the sinks")
    try require(
      completionOnlyLoss == nil || assistantOnlyLoss == nil || completionOnlyLoss == assistantOnlyLoss,
      "assistant_only_loss",
      "contradicts `completion_only_loss`", "keep one of the two")
  }

  private func validateMemory() throws {
    let remedy = "set `gradient_checkpointing: true`, or remove it"
    if let gradientCheckpointingLayers {
      try require(
        gradientCheckpointing, "gradient_checkpointing_layers",
        "says nothing without `gradient_checkpointing`",
        remedy)
      try require(atLeastOne: gradientCheckpointingLayers, "gradient_checkpointing_layers")
    }
    try require(
      gradientCheckpointing || !activationOffloading, "activation_offloading",
      "is about the inputs of checkpointed layers, and `gradient_checkpointing` is false", remedy)
    try require(
      offloadOptimizer != .cpu || !optim.entry.isPaged, "offload_optimizer",
      "is `cpu`, and `optim: \(optim.name)` has a place of its own for its states", "keep one of the two")
  }

  private func validateSchedule() throws {
    switch warmupSteps {
    case .steps(let steps):
      try require(steps >= 0, "warmup_steps", "is \(steps)", "write a number of steps, or a fraction below 1")
      // An epoch's steps are not known yet; an explicit length is.
      try require(
        maxSteps == -1 || steps <= maxSteps, "warmup_steps",
        "is \(steps), longer than the run of \(maxSteps) steps",
        "write a smaller number, or a fraction such as 0.05")
    case .fraction(let fraction):
      try require((0..<1).contains(fraction), "warmup_steps", "is \(fraction)", "write a fraction below 1")
    }
    if let warmupRatio {
      try require(
        (0...1).contains(warmupRatio), "warmup_ratio", "is \(warmupRatio)", "write a fraction from 0 to 1")
      try require(
        warmupSteps == .steps(0), "warmup_ratio", "stands beside `warmup_steps`", "keep one of the two")
    }
    do {
      // Any length shows whether name and options are right; phases that must fit into the run are checked with the
      // length that is known.
      _ = try schedule(ofTotal: maxSteps > 0 ? maxSteps : 1 << 40)
    } catch var error as ConfigurationError {
      error.key =
        ScheduleCatalogue.names.contains(lrSchedulerType) && !lrSchedulerKwargs.isEmpty
        ? "lr_scheduler_kwargs" : "lr_scheduler_type"
      throw error
    }
  }

  private func validateEvaluation(hasValidationData: Bool) throws {
    let remedy = "name a `validation_file`"
    let problem = "asks for evaluation, but there is no validation data"
    try require(hasValidationData || evalStrategy == .no, "eval_strategy", problem, remedy)
    try require(hasValidationData || !evalOnStart, "eval_on_start", problem, remedy)
    try require(
      earlyStoppingPatience == nil || evalStrategy != .no, "early_stopping_patience",
      "needs evaluations, but `eval_strategy` is `no`", "write `eval_strategy: steps` or `epoch`")
    try require(
      saveStrategy != .best || evalStrategy != .no, "save_strategy", "is `best`, but `eval_strategy` is `no`",
      "write `eval_strategy: steps` or `epoch`")
  }

  private func validateBestModel() throws {
    guard loadBestModelAtEnd else { return }
    let key = "load_best_model_at_end"
    try require(
      evalStrategy != .no, key, "needs evaluations, but `eval_strategy` is `no`",
      "write `eval_strategy: steps` or `epoch`")
    if saveStrategy == .best { return }
    try require(
      saveStrategy.rawValue == evalStrategy.rawValue, key,
      "needs a checkpoint for each evaluation, but `save_strategy` is `\(saveStrategy.rawValue)` and `eval_strategy` "
        + "is `\(evalStrategy.rawValue)`", "write the same for both, or `save_strategy: best`")
    guard evalStrategy == .steps else { return }
    let evalSteps = evalSteps ?? loggingSteps
    let fits: Bool
    switch (saveSteps, evalSteps) {
    case (.steps(let save), .steps(let evaluate)): fits = save % evaluate == 0
    case (.fraction(let save), .fraction(let evaluate)):
      // In millionths: quotients of fractions such as 0.3 / 0.1 are not whole in binary.
      let unit = 1_000_000.0
      fits = (save * unit).rounded().truncatingRemainder(dividingBy: (evaluate * unit).rounded()) == 0
    default:
      throw ConfigurationError(
        "`save_steps` and `eval_steps` mix steps and fractions, which `\(key)` cannot compare",
        key: "save_steps",
        remedy: "write both as steps or both as fractions")
    }
    try require(
      fits, "save_steps",
      "is \(saveSteps.text), not a multiple of \(evalSteps.text), the `eval_steps`: the best model might not be saved",
      "write a multiple, or `save_strategy: best`")
  }

  private func require(
    _ condition: Bool, _ key: String, _ problem: @autoclosure () -> String,
    _ remedy: @autoclosure () -> String
  ) throws {
    if !condition { throw ConfigurationError("`\(key)` \(problem())", key: key, remedy: remedy()) }
  }

  private func require(atLeastOne value: Int, _ key: String) throws {
    try require(value >= 1, key, "is \(value)", "write 1 or more")
  }

  private func require(notNegative value: Double, _ key: String) throws {
    try require(value >= 0 && value.isFinite, key, "is \(value)", "write 0 or more")
  }

  private func require(positive value: StepCount, _ key: String) throws {
    switch value {
    case .steps(let steps):
      try require(steps >= 1, key, "is \(steps)", "write 1 or more, or a fraction of the run")
    case .fraction(let fraction):
      try require(
        fraction > 0 && fraction < 1, key, "is \(fraction)", "write a fraction between 0 and 1, or steps")
    }
  }
}

extension StepCount {
  fileprivate var text: String {
    switch self {
    case .steps(let steps): String(steps)
    case .fraction(let fraction): String(fraction)
    }
  }
}
