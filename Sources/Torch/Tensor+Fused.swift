import CTorch

// Operations that the engine has no single kernel for on the CPU; their formulas stand in Sources/CTorch/Kernels.

extension Tensor {
  /// Attention inside each sequence of a ragged batch; see `raggedAttention` of NeuralNetworks. Differentiable.
  ///
  /// - Parameters:
  ///   - offsets: int32 `[N + 1]` in host memory.
  ///   - window: tokens that a token may see, itself counted; 0 is all.
  public static func raggedAttention(
    _ query: Tensor, _ key: Tensor, _ value: Tensor, offsets: Tensor, scale: Double, causal: Bool,
    window: Int = 0
  ) throws -> Tensor {
    try checked("attention", query, key, value) {
      ct_ragged_attention(
        query.handle, key.handle, value.handle, offsets.handle, scale, causal, Int64(window))
    }
  }

  /// The same on one fused projection `[T, heads + 2 · keyHeads, d]`, queries before keys before values: its gradient
  /// comes as one tensor.
  public static func raggedAttention(
    fused queryKeyValue: Tensor, keyHeads: Int, offsets: Tensor, scale: Double, causal: Bool, window: Int = 0
  ) throws -> Tensor {
    try checked("attention", queryKeyValue) {
      ct_ragged_attention_fused(
        queryKeyValue.handle, offsets.handle, Int64(keyHeads), scale, causal, Int64(window))
    }
  }

  /// These rows, `[P + Σ sₙ, …]`, with the first P of them, which N sequences share, before the own rows of each: `[T, …]`.
  /// Differentiable.
  ///
  /// - Parameters:
  ///   - prefix: P.
  ///   - offsets: int32 `[N + 1]` in host memory: where each sequence begins in the result.
  public func repeatingPrefix(_ prefix: Int, offsets: Tensor) throws -> Tensor {
    try Tensor.checked("shared prefix", self) { ct_repeat_prefix(handle, Int64(prefix), offsets.handle) }
  }

  /// The reverse, `[T, …]` → `[P + Σ sₙ, …]`: the first sequence's copy stays. Differentiable.
  public func droppingRepeatedPrefix(_ prefix: Int, offsets: Tensor) throws -> Tensor {
    try Tensor.checked("shared prefix", self) {
      ct_drop_repeated_prefix(handle, Int64(prefix), offsets.handle)
    }
  }

  /// Attention of new queries to a key-value cache; see `cachedAttention` of NeuralNetworks.
  public static func cachedAttention(
    _ query: Tensor, keys: Tensor, values: Tensor, offsets: Tensor, lengths: Tensor, scale: Double,
    causal: Bool,
    window: Int = 0
  ) throws -> Tensor {
    try checked("cached attention", query, keys, values) {
      ct_cached_attention(
        query.handle, keys.handle, values.handle, offsets.handle, lengths.handle, scale, causal, Int64(window)
      )
    }
  }

  /// −Σ log softmax(h Wᵀ)[label] for hidden states `[S, width]`, weight `[vocabulary, width]`, int64 labels `[S]`: a
  /// fp32 scalar. The logits are never whole, and the gradient is made on the way forward.
  public func linearCrossEntropy(weight: Tensor, labels: Tensor) throws -> Tensor {
    try Tensor.checked("linear cross-entropy", self, weight, labels) {
      ct_linear_cross_entropy(handle, weight.handle, labels.handle)
    }
  }

  /// Each position's loss, fp32 `[S]`, and most likely token, int64 `[S]`; no gradient.
  public func linearCrossEntropyPerToken(weight: Tensor, labels: Tensor) throws -> (
    losses: Tensor, predictions: Tensor
  ) {
    var losses: OpaquePointer?
    var predictions: OpaquePointer?
    try checkedStatus("linear cross-entropy", weight, labels) {
      ct_linear_cross_entropy_per_token(handle, weight.handle, labels.handle, &losses, &predictions)
    }
    return (Tensor(owning: losses!), Tensor(owning: predictions!))
  }

  /// x / √(mean(x²) + ε) · w over the last dimension.
  public func rmsNorm(weight: Tensor, epsilon: Double) throws -> Tensor {
    try Tensor.checked("rms_norm", self, weight) { ct_rms_norm(handle, weight.handle, epsilon) }
  }

  /// silu(gate) · up.
  public static func swiGLU(_ gate: Tensor, _ up: Tensor) throws -> Tensor {
    try checked("swiglu", gate, up) { ct_swiglu(gate.handle, up.handle) }
  }

  /// The same on `[T, 2 · size]`, gate before up.
  public static func swiGLU(fused gateUp: Tensor) throws -> Tensor {
    try checked("swiglu", gateUp) { ct_swiglu_fused(gateUp.handle) }
  }

  /// Rotates the heads of a projection `[T, heads · headSize]` by tables `[T, headSize]`; this tensor may be overwritten.
  package func rotated(cosines: Tensor, sines: Tensor, headSize: Int, heads: Int) throws -> Tensor {
    try Tensor.checked("rotary", self, cosines) {
      ct_rotary(handle, cosines.handle, sines.handle, Int64(headSize), Int64(heads))
    }
  }

  /// x Wᵀ + b + Σ scale · (mask · x Aᵀ) Bᵀ for `[T, in]` and frozen weights `[out, in]` that count behind one another, each pair
  /// A `[r, in]`, B `[n, r]` adding to the `n` outputs from `firstOutput` on.
  ///
  /// - Parameter mask: the dropout mask of the input for all pairs, 0 or 1 / (1 − p), in its shape.
  package func loraLinear(
    weights: [Tensor], bias: Tensor?, pairs: [(a: Tensor, b: Tensor, scale: Double, firstOutput: Int)],
    mask: Tensor? = nil
  ) throws -> Tensor {
    let result = Tensor.withHandles(weights) { weights, weightCount in
      Tensor.withHandles(pairs.map(\.a)) { a, count in
        Tensor.withHandles(pairs.map(\.b)) { b, _ in
          ct_lora_linear(
            handle, weights, weightCount, bias?.handle, a, b, pairs.map(\.scale),
            pairs.map { Int64($0.firstOutput) }, count, mask?.handle)
        }
      }
    }
    guard let result else {
      throw TorchError.last("linear with LoRA", [self] + weights + pairs.flatMap { [$0.a, $0.b] })
    }
    return Tensor(owning: result)
  }
}

extension Engine {
  /// Whether this processor has dot products of bfloat16 (AVX-512), so that weights in it are multiplied from where they lie.
  public static var hasBFloat16Products: Bool { ct_has_bfloat16_products() }
}
