/// The modules that methods take when `target_modules` says nothing, by model type: PEFT's tables.
enum DefaultTargets {
  /// LoRA's, and those of all methods without a table of their own.
  static let attention: [String: [String]] = LoRAConfig.defaultTargets

  static func attention(changing others: [String: [String]]) -> [String: [String]] {
    attention.merging(others) { $1 }
  }

  /// IA3 scales keys, values and the input of the feed-forward's last layer.
  static let ia3: [String: [String]] = [
    "llama": ["k_proj", "v_proj", "down_proj"], "mistral": ["k_proj", "v_proj", "down_proj"],
    "mixtral": ["k_proj", "v_proj", "w2"], "qwen2": ["q_proj", "v_proj", "down_proj"],
    "qwen3": ["q_proj", "v_proj", "down_proj"], "gemma": ["q_proj", "v_proj", "down_proj"],
    "gemma2": ["q_proj", "v_proj", "down_proj"], "gemma3_text": ["q_proj", "v_proj", "down_proj"],
    "phi": ["q_proj", "v_proj", "fc2"], "gpt2": ["c_attn", "mlp.c_proj"],
    "bert": ["key", "value", "output.dense"], "roberta": ["key", "value", "output.dense"],
    "t5": ["k", "v", "wo"],
  ]

  /// Those of them whose input is scaled.
  static let ia3FeedForward: [String: [String]] = [
    "llama": ["down_proj"], "mistral": ["down_proj"], "mixtral": ["w2"], "qwen2": ["down_proj"],
    "qwen3": ["down_proj"], "gemma": ["down_proj"], "gemma2": ["down_proj"], "gemma3_text": ["down_proj"],
    "phi": ["fc2"], "gpt2": ["mlp.c_proj"], "bert": ["output.dense"], "roberta": ["output.dense"],
    "t5": ["wo"],
  ]

  static let norms: [String: [String]] = [
    "llama": ["input_layernorm", "post_attention_layernorm", "norm"],
    "mistral": ["input_layernorm", "post_attention_layernorm", "norm"],
    "gemma": ["input_layernorm", "post_attention_layernorm", "norm"],
    "gemma2": [
      "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
      "post_feedforward_layernorm", "norm",
    ],
    "gemma3_text": [
      "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm",
      "post_feedforward_layernorm", "norm",
    ],
    "qwen2": ["post_attention_layernorm"], "qwen3": ["post_attention_layernorm"],
    "phi": ["input_layernorm", "final_layernorm"], "gpt2": ["ln_1", "ln_2", "ln_f"],
    "t5": ["layer_norm", "final_layer_norm"],
  ]
}
