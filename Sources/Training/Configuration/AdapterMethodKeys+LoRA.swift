import JSON

extension AdapterMethodKeys {
  /// LoRA, with the names and defaults of PEFT's `LoraConfig`.
  public static let lora = AdapterMethodKeys(
    method: "lora",
    summary:
      "Low-rank adaptation: a trained product of two thin matrices beside each target layer (arXiv 2106.09685).",
    keys: [
      .init("r", .integer, default: 8, "Rank of the update."),
      .init("lora_alpha", .number, default: 8, "Scale of the update: it is multiplied by `lora_alpha / r`."),
      .init(
        "lora_dropout", .number, default: 0.0, "Probability of dropping an input of the update in training."),
      .init(
        "target_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Layers to adapt: names or endings of paths, a regular expression of whole paths, or `all-linear`. `null` is "
          + "the usual choice for the model's family."),
      .init(
        "exclude_modules", .optional(.any([.string, .list(.string)])), default: nil,
        "Layers to leave out although `target_modules` names them."),
      .init(
        "layers_to_transform", .optional(.any([.integer, .list(.integer)])), default: nil,
        "Indices of the blocks to adapt; `null` is all."),
      .init(
        "layers_pattern", .optional(.any([.string, .list(.string)])), default: nil,
        "Name of the list of blocks in module paths, if it is not one that Graft knows."),
      .init(
        "rank_pattern", .mapping(.integer), default: [:], "Ranks of single layers, by name or expression."),
      .init("alpha_pattern", .mapping(.number), default: [:], "Values of `lora_alpha` for single layers."),
      .init("bias", .choice(["none", "all", "lora_only"]), default: "none", "Which biases are trained too."),
      .init("use_rslora", .boolean, default: false, "Scale by `lora_alpha / √r` (arXiv 2312.03732)."),
      .init(
        "modules_to_save", .optional(.list(.string)), default: nil,
        "Modules that are trained in full and saved with the adapter, such as a new head."),
      .init(
        "init_lora_weights", .any([.boolean, .choice(["gaussian"])]), default: true,
        "`true`: A is Kaiming-uniform and B is 0. `gaussian`: A is normal and B is 0. `false`: both are random."
      ),
      .init(
        "fan_in_fan_out", .boolean, default: false,
        "Weights are stored as [in, out]; models that need it set it themselves."),
      .init(
        "task_type", .choice(["CAUSAL_LM"]), default: "CAUSAL_LM",
        "Kind of model, recorded with the adapter."),
    ],
    validate: { configuration in
      func require(_ condition: Bool, _ key: String, _ remedy: String) throws {
        guard !condition else { return }
        let value = configuration[key]?.serialized() ?? "missing"
        throw ConfigurationError("`\(key)` is \(value)", key: key, remedy: remedy)
      }
      try require(configuration["r"]?.intValue ?? 0 >= 1, "r", "write 1 or more")
      try require(
        (0..<1).contains(configuration["lora_dropout"]?.doubleValue ?? 0), "lora_dropout",
        "write a probability from 0 to below 1")
      let ranks = configuration["rank_pattern"]?.objectValue ?? [:]
      try require(
        ranks.values.allSatisfy { $0.intValue ?? 0 >= 1 }, "rank_pattern", "write ranks of 1 or more")
    })
}

extension [AdapterMethodKeys] {
  /// The methods of this version.
  public static var all: [AdapterMethodKeys] { [.lora] }
}
