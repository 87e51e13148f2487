import Torch

/// Lion: steps of one size, in the direction of the sign of an interpolated momentum (Chen et al. 2023, arXiv:2302.06675).
///
/// p ← p (1 − lr λ) − lr sign(β₁ m + (1 − β₁) g);  m ← β₂ m + (1 − β₂) g
///
/// β₁ and β₂ are `adam_beta1` and `adam_beta2`, as transformers has it (the paper's are 0.9 and 0.99); the learning rate
/// should be three to ten times smaller than AdamW's.
struct Lion: UpdateRule {
  private let beta1: Double
  private let beta2: Double
  private let is8Bit: Bool

  init(_ arguments: TrainingArguments, is8Bit: Bool) {
    beta1 = arguments.adamBeta1
    beta2 = arguments.adamBeta2
    self.is8Bit = is8Bit
  }

  private func isCoded(_ shape: [Int]) -> Bool { is8Bit && BlockwiseStates.apply(to: shape) }

  func state(of shape: [Int]) -> [StateShape] {
    isCoded(shape)
      ? BlockwiseStates.state("exp_avg", of: shape) : [StateShape(name: "exp_avg", shape: shape)]
  }

  func update(_ parameters: [ParameterUpdate], learningRate: Double, step: Int) throws {
    for parameter in parameters {
      let (value, gradient, state) = (parameter.value, parameter.gradient, parameter.state)
      if isCoded(value.shape) {
        try value.lion8BitStep(
          gradient: gradient, mean: .init(codes: state[0], scales: state[1]), learningRate: learningRate,
          beta1: beta1, beta2: beta2, weightDecay: parameter.weightDecay)
      } else {
        try value.lionStep(
          gradient: gradient, mean: state[0], learningRate: learningRate, beta1: beta1, beta2: beta2,
          weightDecay: parameter.weightDecay)
      }
    }
  }

  static let entries = [
    OptimizerEntry(
      "lion_32bit", synonyms: ["lion"],
      summary: "Lion (arXiv 2302.06675): the sign of the momentum, one moment in float32",
      rule: { arguments, _ in Lion(arguments, is8Bit: false) }),
    OptimizerEntry(
      "lion_8bit", summary: "Lion with its moment in 8 bits a number",
      rule: { arguments, _ in Lion(arguments, is8Bit: true) }),
    OptimizerEntry(
      "paged_lion_32bit", synonyms: ["paged_lion"], pagedFormOf: "lion_32bit",
      summary: "Lion with paged states",
      rule: { arguments, _ in Lion(arguments, is8Bit: false) }),
    OptimizerEntry(
      "paged_lion_8bit", pagedFormOf: "lion_8bit", summary: "Lion in 8 bits a number, paged",
      rule: { arguments, _ in Lion(arguments, is8Bit: true) }),
  ]
}
