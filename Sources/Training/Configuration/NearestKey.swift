/// Finds the key that a user most likely meant.
enum NearestKey {
  /// Other programs' and older names of the same settings, each with the name it has here.
  static let aliases: [String: String] = [
    "lr": "learning_rate", "epochs": "num_train_epochs", "num_epochs": "num_train_epochs",
    "steps": "max_steps",
    "batch_size": "per_device_train_batch_size", "train_batch_size": "per_device_train_batch_size",
    "micro_batch_size": "per_device_train_batch_size",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "eval_batch_size": "per_device_eval_batch_size", "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "grad_accum": "gradient_accumulation_steps", "accumulation_steps": "gradient_accumulation_steps",
    "grad_clip": "max_grad_norm", "clip_grad_norm": "max_grad_norm", "gradient_clip_val": "max_grad_norm",
    "scheduler": "lr_scheduler_type", "lr_scheduler": "lr_scheduler_type", "warmup": "warmup_steps",
    "optimizer": "optim", "wd": "weight_decay", "betas": "adam_beta1",
    "evaluation_strategy": "eval_strategy", "patience": "early_stopping_patience",
    "activation_checkpointing": "gradient_checkpointing", "resume": "resume_from_checkpoint",
    "output": "output_dir", "out_dir": "output_dir",
    "max_seq_length": "max_length", "max_seq_len": "max_length", "cutoff_len": "max_length",
    "sequence_len": "max_length", "block_size": "max_length", "sample_packing": "packing",
    "model": "model_name_or_path", "base_model": "model_name_or_path", "model_name": "model_name_or_path",
    "model_path": "model_name_or_path", "torch_dtype": "dtype", "precision": "dtype",
    "model_revision": "revision",
    "dataset": "train_file", "train_data": "train_file", "data": "train_file", "train_dataset": "train_file",
    "dataset_name": "train_file", "data_path": "train_file", "eval_file": "validation_file",
    "val_file": "validation_file", "eval_dataset": "validation_file", "validation_data": "validation_file",
    "dataset_text_field": "text_column", "max_samples": "max_train_samples",
    "data_format": "row_format",
    "system": "system_prompt", "default_system": "system_prompt",
    "peft_type": "peft_method", "adapter": "peft_method", "finetuning_type": "peft_method",
    "lora_r": "r", "rank": "r", "lora_rank": "r", "alpha": "lora_alpha", "dropout": "lora_dropout",
    "lora_target": "target_modules", "lora_target_modules": "target_modules",
    "lora_modules_to_save": "modules_to_save", "additional_target": "modules_to_save",
    "lora_task_type": "task_type", "lora_bias_type": "bias",
  ]

  /// The candidate nearest to a name: by alias, else by edit distance when it is small enough to be a slip.
  static func suggestion(for name: String, among candidates: [String]) -> String? {
    let folded = name.lowercased().replacing("-", with: "_")
    if candidates.contains(folded) { return folded }
    if let known = aliases[folded], candidates.contains(known) { return known }
    // A third of the letters wrong is still a slip; more is another word.
    let allowed = max(1, min(4, folded.count / 3))
    var best: (distance: Int, name: String)?
    for candidate in candidates {
      let distance = editDistance(folded, candidate)
      if distance <= allowed, distance < best?.distance ?? .max { best = (distance, candidate) }
    }
    return best?.name
  }

  /// Insertions, deletions, substitutions and swaps of neighbours between two names (optimal string alignment).
  static func editDistance(_ first: String, _ second: String) -> Int {
    let a = Array(first.unicodeScalars)
    let b = Array(second.unicodeScalars)
    // Names of keys are short; a longer one is no slip of any, and must not cost a quadratic table.
    guard a.count <= 64, b.count <= 64 else { return .max }
    if a.isEmpty || b.isEmpty { return a.count + b.count }
    var beforePrevious = [Int](repeating: 0, count: b.count + 1)
    var previous = Array(0...b.count)
    for i in 1...a.count {
      var current = [i]
      current.reserveCapacity(b.count + 1)
      for j in 1...b.count {
        var distance = min(
          previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
        if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
          distance = min(distance, beforePrevious[j - 2] + 1)
        }
        current.append(distance)
      }
      beforePrevious = previous
      previous = current
    }
    return previous[b.count]
  }
}
