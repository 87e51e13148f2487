/// What a model is for, which decides its head.
public enum ModelTask: String, Sendable, Hashable, CaseIterable {
  /// It predicts the next token.
  case causalLM = "CAUSAL_LM"
  /// It gives each text labels, or numbers.
  case sequenceClassification = "SEQ_CLS"

  /// PEFT's name, the value of `task_type`.
  public var taskType: String { rawValue }

  /// What Hugging Face's class names end in: `LlamaForSequenceClassification`.
  public var classSuffix: String {
    switch self {
    case .causalLM: "ForCausalLM"
    case .sequenceClassification: "ForSequenceClassification"
    }
  }

  /// The modules in front of which the backbone ends, by the names that Hugging Face's models give them.
  public var headNames: [String] {
    switch self {
    case .causalLM: ["lm_head"]
    case .sequenceClassification: ["classifier", "score"]
    }
  }
}
