import CTorch

extension Tensor {
  /// One step of AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) on all parameters, in place.
  ///
  /// - Parameters:
  ///   - means: first moments, by parameter.
  ///   - squares: second moments, by parameter.
  ///   - step: counts from 1.
  package static func adamWStep(
    _ parameters: [Tensor], gradients: [Tensor], means: [Tensor], squares: [Tensor], learningRate: Double,
    beta1: Double, beta2: Double, epsilon: Double, weightDecay: Double, step: Int
  ) throws {
    let status = withHandles(parameters) { parameters, count in
      withHandles(gradients) { gradients, _ in
        withHandles(means) { means, _ in
          withHandles(squares) { squares, _ in
            ct_adamw_step(
              parameters, gradients, means, squares, count, learningRate, beta1, beta2, epsilon, weightDecay,
              Int64(step))
          }
        }
      }
    }
    guard status == 0 else { throw TorchError.last("AdamW step", []) }
  }

  /// Takes the numbers of an fp32 tensor up in bf16, each rounded up or down by chance, so that the mean over many roundings is the number
  /// (Gupta et al. 2015, arXiv:1502.02551). The engine's generator decides.
  ///
  /// - Parameter inPlainOperations: without the kernel, as on devices that have none.
  package func copyInPlace(roundingStochastically source: Tensor, inPlainOperations: Bool = false) throws {
    try checkedStatus("stochastic rounding", source) {
      ct_round_stochastically(handle, source.handle, inPlainOperations)
    }
  }

  /// An optimizer state in 8 bits a number (Dettmers et al. 2021, arXiv:2110.02861).
  package struct BlockwiseState {
    /// uint8 in the parameter's shape: codes of the dynamic map.
    package let codes: Tensor
    /// fp32 `[⌈count / 256⌉]`: the largest magnitude of each block.
    package let scales: Tensor

    package init(codes: Tensor, scales: Tensor) {
      self.codes = codes
      self.scales = scales
    }

    /// Numbers that share a scale.
    package static let blockSize = 256

    /// The numbers of the data type, ascending, fp32 `[256]`: from −1 or, unsigned, from 0 to 1.
    package static func map(signed: Bool) throws -> Tensor {
      try Tensor.checked("dynamic map") { ct_dynamic_map(signed) }
    }
  }

  /// One step of AdamW on this parameter, with states in 8 bits: the mean signed, the square unsigned.
  ///
  /// - Parameter inPlainOperations: without the kernel, as on devices that have none.
  package func adamW8BitStep(
    gradient: Tensor, mean: BlockwiseState, square: BlockwiseState, learningRate: Double, beta1: Double,
    beta2: Double, epsilon: Double, weightDecay: Double, step: Int, inPlainOperations: Bool = false
  ) throws {
    try checkedStatus("8-bit AdamW step", gradient) {
      ct_adamw_8bit_step(
        handle, gradient.handle, mean.codes.handle, mean.scales.handle, square.codes.handle,
        square.scales.handle, learningRate, beta1, beta2, epsilon, weightDecay, Int64(step), inPlainOperations
      )
    }
  }

  /// One step of Lion (Chen et al. 2023, arXiv:2302.06675) on this parameter:
  /// p ← p (1 − lr λ) − lr sign(β₁ m + (1 − β₁) g);  m ← β₂ m + (1 − β₂) g.
  package func lionStep(
    gradient: Tensor, mean: Tensor, learningRate: Double, beta1: Double, beta2: Double, weightDecay: Double
  ) throws {
    try checkedStatus("Lion step", gradient) {
      ct_lion_step(handle, gradient.handle, mean.handle, nil, learningRate, beta1, beta2, weightDecay, false)
    }
  }

  /// The same with the mean in 8 bits.
  package func lion8BitStep(
    gradient: Tensor, mean: BlockwiseState, learningRate: Double, beta1: Double, beta2: Double,
    weightDecay: Double, inPlainOperations: Bool = false
  ) throws {
    try checkedStatus("8-bit Lion step", gradient) {
      ct_lion_step(
        handle, gradient.handle, mean.codes.handle, mean.scales.handle, learningRate, beta1, beta2,
        weightDecay, inPlainOperations)
    }
  }
}
