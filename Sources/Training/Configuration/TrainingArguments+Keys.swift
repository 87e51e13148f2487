extension TrainingArguments {
  /// Every training key, in the order of the reference.
  public static let keys: [ConfigurationKey<TrainingArguments>] =
    lengthKeys + optimizerKeys + precisionKeys + textKeys + orderKeys + evaluationKeys + savingKeys
    + loggingKeys

  private static let lengthKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Length and batches"
    return [
      .init(
        "num_train_epochs", in: section, \.numTrainEpochs,
        "Passes over the training data; fractions are allowed."),
      .init(
        "max_steps", in: section, \.maxSteps,
        "Optimizer steps of the run. Above 0 it replaces `num_train_epochs`; -1 leaves it to that."),
      .init(
        "per_device_train_batch_size", in: section, \.perDeviceTrainBatchSize,
        "Sequences of one forward pass; with `packing`, packed sequences."),
      .init(
        "per_device_eval_batch_size", in: section, \.perDeviceEvalBatchSize,
        "Sequences of one forward pass in evaluation."),
      .init(
        "gradient_accumulation_steps", in: section, \.gradientAccumulationSteps,
        "Batches of one optimizer step. The loss is divided by the supervised tokens of all of them together."
      ),
    ]
  }()

  private static let optimizerKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Optimizer and schedule"
    return [
      .init(
        "optim", in: section, \.optim,
        "Update rule. "
          + OptimizerCatalogue.all.map { entry in
            let names = ([entry.name] + entry.synonyms).map { "`\($0)`" }.joined(separator: " or ")
            return "\(names): \(entry.summary)."
          }.joined(separator: " ")),
      .init(
        "optim_args", in: section, \.optimArgs,
        "Further options of the optimizer, `name=value,name=value`: "
          + OptimizerCatalogue.all.filter { !$0.options.isEmpty }.map { entry in
            "\(entry.options.map { "`\($0)`" }.joined(separator: ", ")) of `\(entry.name)`"
          }.joined(separator: "; ") + "."),
      .init("learning_rate", in: section, \.learningRate, "Base learning rate: the peak after warmup."),
      .init(
        "loraplus_lr_ratio", in: section, \.loraplusLrRatio,
        "LoRA+ (arXiv 2402.12354): B learns with `learning_rate` times this, 16 for instance; `null` is off."),
      .init(
        "loraplus_lr_embedding", in: section, \.loraplusLrEmbedding,
        "LoRA+: the learning rate of LoRA on embeddings."),
      .init(
        "loraplus_weight_decay", in: section, \.loraplusWeightDecay,
        "LoRA+: weight decay, in place of `weight_decay`."),
      .init("weight_decay", in: section, \.weightDecay, "Decoupled weight decay, never on biases and norms."),
      .init("adam_beta1", in: section, \.adamBeta1, "Decay of the gradient's average; Lion's interpolation."),
      .init("adam_beta2", in: section, \.adamBeta2, "Decay of the squared gradient's average."),
      .init("adam_epsilon", in: section, \.adamEpsilon, "Added to the denominator of the update."),
      .init(
        "max_grad_norm", in: section, \.maxGradNorm,
        "Gradients are scaled down to this global norm; 0 turns clipping off."),
      .init(
        "lr_scheduler_type", in: section, \.lrSchedulerType,
        "Schedule: " + ScheduleCatalogue.names.map { "`\($0)`" }.joined(separator: ", ") + "."),
      .init(
        "lr_scheduler_kwargs", in: section, \.lrSchedulerKwargs,
        "Options of the schedule, such as `{min_lr_rate: 0.1}` for `cosine_with_min_lr`."),
      .init(
        "warmup_steps", in: section, \.warmupSteps,
        "Steps over which the rate rises from 0; below 1 a fraction of the run."),
      .init(
        "warmup_ratio", in: section, \.warmupRatio,
        "Warmup as a fraction of the run: the older form of the above."),
    ]
  }()

  private static let precisionKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Precision and memory"
    return [
      .init(
        "bf16", in: section, \.bf16,
        "Hold the base in bfloat16 and compute in it, whatever its files hold. Trainable weights stay float32."
      ),
      .init(
        "fp16", in: section, \.fp16,
        "The same in float16, for devices without bfloat16: with dynamic loss scaling, and steps whose gradients overflow are skipped."
      ),
      .init(
        "gradient_checkpointing", in: section, \.gradientCheckpointing,
        "Compute activations again in the backward pass: about a third more time for much less memory."),
      .init(
        "gradient_checkpointing_layers", in: section, \.gradientCheckpointingLayers,
        "How many layers, from the first one on, `gradient_checkpointing` computes again; the others keep their activations. `null` is all."
      ),
      .init(
        "activation_offloading", in: section, \.activationOffloading,
        "With `gradient_checkpointing`: the layers' inputs wait for the backward pass in pages of a file in `output_dir`, which leave memory when "
          + "it runs short, or on a GPU in the processor's memory."),
      .init(
        "offload_optimizer", in: section, \.offloadOptimizer,
        "Where the optimizer's states lie between the steps: beside the parameters, in the processor's memory (`cpu`, when the run is on a GPU), "
          + "or in pages of a file in `output_dir` (`disk`, as paged optimizers have it on the processor). Those of a parameter come to the device while the one before is updated."
      ),
      .init(
        "max_tokens_per_pass", in: section, \.maxTokensPerPass,
        "A batch of more tokens is computed in several passes of whole sequences, whose gradients are summed: the same step "
          + "in less memory. `null` is, on the CPU, as many as keep half of what the weights take, or 0.4 GB, for the backward pass, from 512 to 1,024, as larger "
          + "passes are no faster, and no limit on a GPU; 0 is no limit."
      ),
    ]
  }()

  private static let textKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Sequences and loss"
    return [
      .init(
        "max_length", in: section, \.maxLength,
        "Tokens of one sequence, with `packing` of one packed sequence; `null` is the model's context."),
      .init(
        "truncation_mode", in: section, \.truncationMode,
        "What becomes of a longer row: cut at its end, cut at its start, left out, or an error."),
      .init(
        "packing", in: section, \.packing,
        "Put several rows into one sequence of up to `max_length` tokens. They never see each other."),
      .init(
        "eval_packing", in: section, \.evalPacking, "The same for evaluation; `null` does as `packing` says."),
      .init(
        "completion_only_loss", in: section, \.completionOnlyLoss,
        "`false` learns prompts as well as responses. `null` and `true` learn the responses only."),
      .init(
        "assistant_only_loss", in: section, \.assistantOnlyLoss,
        "The same for conversations: `false` learns all turns, `null` and `true` the assistant's only."),
    ]
  }()

  private static let orderKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Order and randomness"
    return [
      .init("train_sampling_strategy", in: section, \.trainSamplingStrategy, "Order of the training rows."),
      .init(
        "dataloader_drop_last", in: section, \.dataloaderDropLast,
        "Leave out the last batch if it is not full."),
      .init(
        "seed", in: section, \.seed, "Seed of the adapter's initial weights, of dropout and of shuffling."),
      .init("data_seed", in: section, \.dataSeed, "Seed of shuffling alone; `null` takes `seed`."),
    ]
  }()

  private static let evaluationKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Evaluation"
    return [
      .init("eval_strategy", in: section, \.evalStrategy, "When to evaluate on the validation data."),
      .init(
        "eval_steps", in: section, \.evalSteps, "Steps between evaluations; `null` takes `logging_steps`."),
      .init(
        "eval_delay", in: section, \.evalDelay,
        "Epochs or steps, whichever `eval_strategy` counts, before the first evaluation."),
      .init("eval_on_start", in: section, \.evalOnStart, "Evaluate before the first step."),
      .init(
        "load_best_model_at_end", in: section, \.loadBestModelAtEnd,
        "End with the checkpoint that evaluated best instead of the last one."),
      .init(
        "metric_for_best_model", in: section, \.metricForBestModel,
        "What makes one best; `null` is the loss. With `task_type: SEQ_CLS` also `accuracy` and `f1_macro`, of numbers `mse`, "
          + "`pearson` and `spearman`."),
      .init(
        "greater_is_better", in: section, \.greaterIsBetter,
        "Whether more of it is better; `null` knows that less loss, perplexity and squared error is."),
      .init(
        "early_stopping_patience", in: section, \.earlyStoppingPatience,
        "Stop after this many evaluations without improvement; `null` never stops early."),
      .init(
        "early_stopping_threshold", in: section, \.earlyStoppingThreshold,
        "How much better counts as an improvement."),
    ]
  }()

  private static let savingKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Saving"
    return [
      .init(
        "output_dir", in: section, \.outputDir,
        "Folder of the checkpoints, the adapter, the logs and the plot."),
      .init(
        "save_strategy", in: section, \.saveStrategy,
        "When to write a checkpoint; `best` does so after each evaluation that is the best so far."),
      .init("save_steps", in: section, \.saveSteps, "Steps between checkpoints."),
      .init(
        "save_total_limit", in: section, \.saveTotalLimit,
        "Checkpoints to keep: the newest, and always the best one if `load_best_model_at_end`; `null` keeps all."
      ),
      .init(
        "save_only_model", in: section, \.saveOnlyModel,
        "Leave optimizer and random state out of checkpoints, which makes them small and impossible to resume."
      ),
      .init(
        "convert_to_plain_lora", in: section, \.convertToPlainLora,
        "At the end, save an adapter whose start changed the base (`init_lora_weights` pissa, olora, loftq) as a plain LoRA of twice "
          + "the rank on the untouched base, as PEFT's `path_initial_model_for_weight_conversion`. Checkpoints keep its own form."
      ),
      .init(
        "resume_from_checkpoint", in: section, \.resumeFromCheckpoint,
        "Continue from a checkpoint's folder, or with `true` from the newest in `output_dir`."),
    ]
  }()

  private static let loggingKeys: [ConfigurationKey<TrainingArguments>] = {
    let section = "Logging"
    return [
      .init("logging_strategy", in: section, \.loggingStrategy, "When to record the training metrics."),
      .init(
        "logging_steps", in: section, \.loggingSteps, "Steps between records; the loss is their average."),
      .init("logging_first_step", in: section, \.loggingFirstStep, "Record the first step too."),
      .init(
        "logging_dir", in: section, \.loggingDir,
        "Folder of the TensorBoard files; `null` is `runs` in `output_dir`."),
      .init(
        "report_to", in: section, \.reportTo,
        "Where to record: `metrics.jsonl`, TensorBoard, the plot `loss.svg`, several of them, or `all` or `none`."
      ),
      .init("run_name", in: section, \.runName, "Title of the plot; `null` is the name of `output_dir`."),
      .init("disable_tqdm", in: section, \.disableTqdm, "Show no progress bar."),
    ]
  }()
}
