/// LoRA+: B learns faster than A (Hayou et al. 2024, arXiv:2402.12354), with the groups of PEFT's `create_loraplus_optimizer`.
///
/// The rates of the groups keep their ratio over the whole schedule; any optimizer will do.
struct LoRAPlus {
  /// B's rate over A's.
  private let ratio: Double
  /// The rate of pairs on embeddings, over that of A.
  private let embeddingRate: Double
  private let weightDecay: Double

  /// Nil when `loraplus_lr_ratio` does not ask for it.
  init?(_ arguments: TrainingArguments) {
    guard let ratio = arguments.loraplusLrRatio else { return nil }
    self.ratio = ratio
    embeddingRate = arguments.loraplusLrEmbedding / arguments.learningRate
    weightDecay = arguments.loraplusWeightDecay
  }

  /// - Parameter key: a parameter's name in its adapter's file.
  func settings(_ key: String, shape: [Int]) -> ParameterSettings {
    if key.contains("lora_embedding_") {
      return ParameterSettings(rate: embeddingRate, weightDecay: weightDecay)
    }
    // Vectors, such as magnitudes and biases, learn as fast as B.
    guard key.contains("lora_B") || shape.count == 1 else {
      return ParameterSettings(weightDecay: weightDecay)
    }
    return ParameterSettings(rate: ratio, weightDecay: key.contains("bias") ? 0 : weightDecay)
  }
}
