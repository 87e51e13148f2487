import Torch

/// AdamW with its moments in 8 bits a number, relative to the largest of each block of 256 (Dettmers et al. 2021, arXiv:2110.02861):
/// 2 bytes a parameter instead of 8.
///
/// The same formula as ``AdamW``; the moments are decoded, updated in fp32 and rounded to the nearest number of the
/// dynamic data type, squares above zero never to zero. Parameters below 4,096 elements keep theirs in fp32, as in
/// bitsandbytes.
struct AdamW8Bit: UpdateRule {
  private let wide: AdamW

  init(_ arguments: TrainingArguments) {
    wide = AdamW(arguments)
  }

  func state(of shape: [Int]) -> [StateShape] {
    guard BlockwiseStates.apply(to: shape) else { return wide.state(of: shape) }
    return BlockwiseStates.state("exp_avg", of: shape) + BlockwiseStates.state("exp_avg_sq", of: shape)
  }

  func update(_ parameters: [ParameterUpdate], learningRate: Double, step: Int) throws {
    try wide.update(
      parameters.filter { !BlockwiseStates.apply(to: $0.value.shape) }, learningRate: learningRate, step: step
    )
    for parameter in parameters where BlockwiseStates.apply(to: parameter.value.shape) {
      let state = parameter.state
      try parameter.value.adamW8BitStep(
        gradient: parameter.gradient, mean: .init(codes: state[0], scales: state[1]),
        square: .init(codes: state[2], scales: state[3]), learningRate: learningRate, beta1: wide.beta1,
        beta2: wide.beta2, epsilon: wide.epsilon, weightDecay: parameter.weightDecay, step: step)
    }
  }

  static let entries = [
    OptimizerEntry(
      "adamw_8bit", synonyms: ["adamw_bnb_8bit"],
      summary: "AdamW with its moments in 8 bits a number, by blocks (arXiv 2110.02861)",
      rule: { arguments, _ in AdamW8Bit(arguments) }),
    OptimizerEntry(
      "paged_adamw_8bit", pagedFormOf: "adamw_8bit", summary: "Both: 8 bits a number, paged",
      rule: { arguments, _ in AdamW8Bit(arguments) }),
  ]
}

/// Which parameters have states in 8 bits, and what those are made of.
enum BlockwiseStates {
  /// Of smaller parameters the states are small too, and their statistics poor.
  private static let smallest = 4096

  static func apply(to shape: [Int]) -> Bool { shape.reduce(1, *) >= smallest }

  /// A moment as codes and scales.
  static func state(_ name: String, of shape: [Int]) -> [StateShape] {
    let size = Tensor.BlockwiseState.blockSize
    let blocks = (shape.reduce(1, *) + size - 1) / size
    return [
      StateShape(name: "\(name).codes", shape: shape, dtype: .uint8),
      StateShape(name: "\(name).scales", shape: [blocks]),
    ]
  }
}
