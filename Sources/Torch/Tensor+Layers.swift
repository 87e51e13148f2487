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

  /// softmax(scale · q kᵀ) v for query `[n, heads, q, d]`, key and value `[n, key-value heads, k, d]`.
  ///
  /// `mask` is boolean (true: may be seen) or added to the scores. Key-value heads may be fewer than heads when
  /// they divide them.
  public static func scaledDotProductAttention(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, mask: Tensor? = nil, scale: Double, causal: Bool
  ) throws -> Tensor {
    let grouped = query.size(1) != key.size(1)
    return try checked("attention", query, key, value) {
      ct_scaled_dot_product_attention(
        query.handle, key.handle, value.handle, mask?.handle, scale, causal, grouped)
    }
  }

  /// Cross-entropy of logits `[n, classes]` with int64 labels `[n]`, summed over the rows; label -100 is ignored.
  public func crossEntropySum(_ labels: Tensor) throws -> Tensor {
    try Tensor.checked("cross_entropy", self, labels) { ct_cross_entropy_sum(handle, labels.handle) }
  }
}
