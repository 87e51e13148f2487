import Adapters

/// Keys that other programs have and Graft has not, each with the reason.
enum UnknownKey {
  /// Settings of transformers, TRL and the like that mean nothing here: what to do instead.
  static let inapplicable: [String: String] = {
    var table: [String: String] = [:]
    func add(_ names: [String], _ reason: String) { for name in names { table[name] = reason } }
    add(
      [
        "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel",
        "liger_kernel_config",
      ],
      "Graft's own kernels are always fused and nothing is compiled at run time")
    add(
      ["padding_free", "pad_to_multiple_of", "pad_token", "group_by_length_padding"],
      "batches are ragged and never padded")
    add(
      ["fp16_full_eval", "bf16_full_eval", "tf32", "half_precision_backend", "fp16_opt_level"],
      "evaluation computes in the type that `dtype` names")
    add(
      [
        "deepspeed", "fsdp", "fsdp_config", "ddp_backend", "ddp_timeout", "ddp_find_unused_parameters",
        "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "local_rank", "parallelism_config",
        "accelerator_config", "average_tokens_across_devices", "log_on_each_node", "save_on_each_node",
      ], "a run uses one device, which `device` names")
    add(
      [
        "push_to_hub", "hub_model_id", "hub_token", "hub_strategy", "hub_private_repo", "hub_always_push",
        "hub_revision",
      ], "Graft uploads nothing: upload `output_dir` with the tool of your model hub")
    add(
      ["do_train", "do_eval", "do_predict"],
      "the command decides: `graft train` trains and evaluates by `eval_strategy`, `graft evaluate` evaluates"
    )
    add(
      [
        "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
        "dataset_num_proc", "dataloader_prefetch_factor",
        "preprocessing_num_workers", "dataloader_in_order", "dataloader_multiprocessing_context",
      ],
      "rows are encoded once, on all cores; batches are made of tokens in memory, with nothing to prepare ahead"
    )
    add(
      ["trust_remote_code"], "Graft never runs code that comes with a model; its families are built in")
    add(
      ["gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"],
      "`gradient_checkpointing` has no options")
    add(["optim_target_modules"], "the adapter says what is trained, and all of it has the same optimizer")
    add(
      ["logging_nan_inf_filter"],
      "a loss that is not finite stops the run with an error instead of being hidden")
    add(["remove_unused_columns", "label_names"], "the column keys choose what is read, and nothing else is")
    add(
      ["include_num_input_tokens_seen", "include_tokens_per_second", "skip_memory_metrics"],
      "tokens, tokens per second and memory are always recorded")
    add(["attn_implementation", "use_cache"], "Graft chooses the attention kernel by device and task")
    add(
      ["neftune_noise_alpha", "label_smoothing_factor"],
      "Graft does not have this regularization; use `lora_dropout` or `weight_decay`")
    add(["auto_find_batch_size"], "choose `per_device_train_batch_size` and `gradient_accumulation_steps`")
    add(["target_parameters"], LoRAConfig.targetParametersReason)
    add(["full_determinism"], "runs are reproducible by `seed`")
    return table
  }()

  /// Keys that go by another name here, each with the line to write.
  private static let rewritten: [String: String] = [
    "group_by_length": "write `train_sampling_strategy: group_by_length`",
    "use_bnb_nested_quant": "write `bnb_4bit_use_double_quant: true`",
    "quantization_bit": "write `load_in_4bit: true` or `load_in_8bit: true`",
    "use_cpu": "write `device: cpu`", "no_cuda": "write `device: cpu`",
    "train_on_inputs": "write `completion_only_loss: false` to learn the prompts too",
    "train_on_prompt": "write `completion_only_loss: false` to learn the prompts too",
    "train_on_responses_only": "write `assistant_only_loss: true`",
    "mask_history": "write `assistant_only_loss: true`",
    "validation_split": "split the rows with `graft data convert` and write `validation_file`",
    "val_size": "split the rows with `graft data convert` and write `validation_file`",
    "betas": "write `adam_beta1` and `adam_beta2`",
    "path_initial_model_for_weight_conversion": "write `convert_to_plain_lora: true`; the start is known",
    "use_peft": "remove it, an adapter is always trained, and `peft_method` says which",
    "stage": "remove it, `graft train` does supervised fine-tuning",
    "template": "remove it, the model's own chat template is used, or name a file with `chat_template_path`",
  ]

  /// The error about a key that no group has.
  static func error(_ name: String, at location: ConfigurationLocation?, among known: [String])
    -> ConfigurationError
  {
    if let reason = inapplicable[name] {
      return ConfigurationError(
        "`\(name)` does not apply to Graft", key: name, at: location, remedy: "remove it: \(reason)")
    }
    let remedy =
      rewritten[name] ?? NearestKey.suggestion(for: name, among: known).map { "write `\($0)`" }
      ?? "remove it, or see docs/configuration.md for the keys there are"
    return ConfigurationError("`\(name)` is not a configuration key", key: name, at: location, remedy: remedy)
  }

  /// Whether a setting of another program asks for nothing, such as `torch_compile: false`, and may stay in the file.
  static func isHarmless(_ entry: ConfigurationNode.Entry) -> Bool {
    inapplicable[entry.key] != nil && (entry.value.isNull || entry.value.boolean == false)
  }
}
