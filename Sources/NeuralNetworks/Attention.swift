import Torch

/// Causal attention inside each sequence of a ragged batch; tokens of different sequences never meet.
///
/// softmax(scale · q kᵀ) v per head (Vaswani et al. 2017, arXiv:1706.03762). Key-value heads may be fewer than query
/// heads: head h reads key-value head h · kvHeads / heads (Ainslie et al. 2023, arXiv:2305.13245).
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
  let outputs = try layout.sequences.map { tokens in
    try attention(
      query.slice(tokens), key.slice(tokens), value.slice(tokens), scale: scale, window: window)
  }
  return outputs.count == 1 ? outputs[0] : try Tensor.concatenated(outputs)
}

/// Causal attention of the last tokens of one sequence over all its keys: query `[q, heads, d]`, key and value
/// `[k, kvHeads, d]`, k ≥ q → `[q, heads, d]`.
public func attention(
  _ query: Tensor, _ key: Tensor, _ value: Tensor, scale: Double, window: Int? = nil
) throws -> Tensor {
  let queries = query.size(0)
  let keys = key.size(0)
  let isWindowed = window.map { $0 < keys } ?? false
  var mask: Tensor?
  if isWindowed || (queries > 1 && queries != keys) {
    mask = try visibility(queries: queries, keys: keys, window: window, device: query.device)
  }
  func heads(_ tensor: Tensor) throws -> Tensor {
    try tensor.transposed(0, 1).unsqueezed(0)  // [n, heads, d] → [1, heads, n, d]
  }
  let output = try Tensor.scaledDotProductAttention(
    heads(query), heads(key), heads(value), mask: mask, scale: scale, causal: mask == nil && queries > 1)
  return try output.squeezed(0).transposed(0, 1)
}

/// `[q, k]` true where the query may see the key: not later, and at most `window` − 1 before it.
private func visibility(queries: Int, keys: Int, window: Int?, device: Device) throws -> Tensor {
  let query = try Tensor.range(keys - queries..<keys, device: device).unsqueezed(1)
  let key = try Tensor.range(0..<keys, device: device).unsqueezed(0)
  let visible = try query.greaterOrEqual(key)
  guard let window else { return visible }
  return try visible * (query - key).less(Double(window))
}
