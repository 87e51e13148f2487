import CTorch

extension Tensor {
  /// Layer normalisation over the last dimension (Ba et al. 2016, arXiv:1607.06450).
  public func layerNorm(weight: Tensor?, bias: Tensor?, epsilon: Double) throws -> Tensor {
    try Tensor.checked("layer_norm", self) { ct_layer_norm(handle, weight?.handle, bias?.handle, epsilon) }
  }

  /// Zeroes elements with `probability` and scales the others by 1 / (1 − probability).
  public func dropout(_ probability: Double) throws -> Tensor {
    try Tensor.checked("dropout", self) { ct_dropout(handle, probability) }
  }

  /// Cross-entropy of logits `[n, classes]` with int64 labels `[n]`, summed over the rows; label -100 is ignored.
  public func crossEntropySum(_ labels: Tensor) throws -> Tensor {
    try Tensor.checked("cross_entropy", self, labels) { ct_cross_entropy_sum(handle, labels.handle) }
  }
}
