import Torch

/// Causal attention inside each sequence of a ragged batch; tokens of different sequences never meet.
///
/// softmax(scale · q kᵀ) v per head (Vaswani et al. 2017, arXiv:1706.03762), block by block without a mask or a matrix of
/// scores (Dao et al. 2022, arXiv:2205.14135). Key-value heads may be fewer than query heads: head h reads key-value
/// head h · kvHeads / heads (Ainslie et al. 2023, arXiv:2305.13245).
///
/// - Parameters:
///   - query: `[T, heads, headDim]`.
///   - key: `[T, kvHeads, headDim]`.
///   - value: `[T, kvHeads, headDim]`.
///   - window: how many tokens back a token may see, itself counted; nil is all of them.
/// - Returns: `[T, heads, headDim]`.
public func raggedAttention(
  _ query: Tensor, _ key: Tensor, _ value: Tensor, layout: RaggedLayout, scale: Double, window: Int? = nil
) throws -> Tensor {
  try Tensor.raggedAttention(
    query, key, value, offsets: layout.offsetsTensor, scale: scale, causal: true, window: window ?? 0)
}

/// The same on one projection that holds queries, keys and values side by side: `[T, heads + 2 · kvHeads, headDim]` →
/// `[T, heads, headDim]`.
public func raggedAttention(
  fused queryKeyValue: Tensor, keyValueHeads: Int, layout: RaggedLayout, scale: Double, window: Int? = nil
) throws -> Tensor {
  try Tensor.raggedAttention(
    fused: queryKeyValue, keyHeads: keyValueHeads, offsets: layout.offsetsTensor, scale: scale, causal: true,
    window: window ?? 0)
}

/// Causal attention of new tokens to all that a cache holds, their own keys included.
///
/// - Parameters:
///   - query: `[T, heads, headDim]` of the new tokens.
///   - keys: `[N, capacity, kvHeads, headDim]`, of which the first `lengths[n]` count.
///   - values: the same shape.
/// - Returns: `[T, heads, headDim]`.
public func cachedAttention(
  _ query: Tensor, keys: Tensor, values: Tensor, lengths: [Int], layout: RaggedLayout, scale: Double,
  window: Int? = nil
) throws -> Tensor {
  try Tensor.cachedAttention(
    query, keys: keys, values: values, offsets: layout.offsetsTensor,
    lengths: Tensor(lengths.map(Int32.init)),
    scale: scale, causal: true, window: window ?? 0)
}
