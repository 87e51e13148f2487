import Torch

/// AdamW: Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101), as
/// `torch.optim.AdamW` computes it.
///
/// p ← p − lr λ p;  m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;
/// p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
struct AdamW: UpdateRule {
  let beta1: Double
  let beta2: Double
  let epsilon: Double

  func state(of shape: [Int]) -> [StateShape] {
    [StateShape(name: "exp_avg", shape: shape), StateShape(name: "exp_avg_sq", shape: shape)]
  }

  func update(_ parameters: [ParameterUpdate], learningRate: Double, step: Int) throws {
    // All that decay alike in one call: LoRA has hundreds of small parameters.
    for (weightDecay, group) in Dictionary(grouping: parameters, by: \.weightDecay) {
      try Tensor.adamWStep(
        group.map(\.value), gradients: group.map(\.gradient), means: group.map { $0.state[0] },
        squares: group.map { $0.state[1] }, learningRate: learningRate, beta1: beta1, beta2: beta2,
        epsilon: epsilon, weightDecay: weightDecay, step: step)
    }
  }

  static let entries = [
    OptimizerEntry(
      "adamw_torch", synonyms: ["adamw_torch_fused", "adamw_hf", "adamw"],
      summary: "AdamW (arXiv 1711.05101), its moments in float32",
      rule: { arguments, _ in AdamW(arguments) }),
    OptimizerEntry(
      "paged_adamw_32bit", synonyms: ["paged_adamw"], pagedFormOf: "adamw_torch",
      summary:
        "The same with its moments in a file's pages, which leave memory when it runs short, or on a GPU in the host's memory",
      rule: { arguments, _ in AdamW(arguments) }),
  ]

  init(_ arguments: TrainingArguments) {
    beta1 = arguments.adamBeta1
    beta2 = arguments.adamBeta2
    epsilon = arguments.adamEpsilon
  }
}
