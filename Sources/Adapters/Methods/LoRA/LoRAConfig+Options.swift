import JSON

extension LoRAConfig {
  public static let method = AdapterMethod(
    peftType: "LORA",
    summary:
      "Low-rank adaptation: a trained product of two thin matrices beside each target layer (arXiv 2106.09685).",
    options: [
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
      .init(
        "lora_bias", .boolean, default: false,
        "Give B a bias that is trained; it can be merged only into layers that have one."),
      .init("use_rslora", .boolean, default: false, "Scale by `lora_alpha / √r` (arXiv 2312.03732)."),
      .init(
        "use_dora", .boolean, default: false,
        "Train the magnitude of each row of the weight apart from its direction: DoRA (arXiv 2402.09353)."),
      .init(
        "init_lora_weights", .any([.boolean, .string]), default: true,
        "How A and B start. "
          + LoRAInitialization.catalogue.map {
            "`\($0.example.replacing("\"", with: ""))`: \($0.meaning)."
          }.joined(separator: " ")),
      .init(
        "eva_config", .optional(.mapping(.any([.boolean, .number]))), default: nil,
        "EVA's options: `rho` (2.0; no layer gets more than `rho · r`), `tau` (0.99; the cosine at which a direction has "
          + "converged), `use_label_mask` (true; tokens without loss are left out), `whiten` (false), "
          + "`adjust_scaling_factors` (true; alpha follows a changed rank)."),
      .init(
        "loftq_config", .mapping(.integer), default: [:],
        "LoftQ's options: `loftq_bits` (4; NF4, or 8, int8) and `loftq_iter` (1; how often the weight is quantized and decomposed "
          + "in turn)."),
      .init(
        "trainable_token_indices", .optional(.any([.list(.integer), .mapping(.list(.integer))])),
        default: nil,
        "Tokens whose vectors are trained: ids in the input embedding, or ids by layer. A tied output embedding follows."
      ),
      .init(
        "layer_replication", .optional(.list(.list(.integer))), default: nil,
        "The model's layers anew, as ranges of the original's: `[[0, 4], [2, 5]]`. Copies share their weights and have "
          + "adapters of their own."),
      .init(
        "ensure_weight_tying", .boolean, default: false,
        "Keep tied embeddings tied: what is trained at one end of the model is the same at the other."),
      .init(
        "fan_in_fan_out", .boolean, default: false,
        "For weights that are stored as [in, out], GPT-2's; `true` is refused, as Graft has no such family yet."
      ),
    ] + CommonAdapterSettings.options,
    // Options of other kinds of LoRA that say nothing by themselves.
    inertFields: ["megatron_core", "qalora_group_size", "target_parameters"]
  ) { try LoRAConfig($0) }

  /// Default `target_modules` by model type, PEFT's table.
  static let defaultTargets: [String: [String]] = [
    "llama": ["q_proj", "v_proj"], "qwen2": ["q_proj", "v_proj"], "qwen3": ["q_proj", "v_proj"],
    "mistral": ["q_proj", "v_proj"], "mixtral": ["q_proj", "v_proj"], "gemma": ["q_proj", "v_proj"],
    "gemma2": ["q_proj", "v_proj"], "gemma3_text": ["q_proj", "v_proj"],
    "phi": ["q_proj", "v_proj", "fc1", "fc2"], "gpt2": ["c_attn"], "bert": ["query", "value"],
    "roberta": ["query", "value"], "t5": ["q", "v"],
  ]
}
