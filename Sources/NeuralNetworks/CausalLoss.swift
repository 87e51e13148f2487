import Torch

/// Which hidden states predict something, and what.
///
/// Labels are aligned with tokens; the shift by one happens here and nowhere else: the state at position i predicts
/// the label at i + 1 of the same sequence.
public struct Supervision {
  /// Rows of the hidden states, ascending.
  public let rows: [Int]
  /// What each row is to predict.
  public let targets: [Int]

  /// - Parameters:
  ///   - labels: `[T]`, one a token.
  ///   - offsets: `[N + 1]`: sequence n is the tokens offsets[n] ..< offsets[n + 1].
  ///   - ignoreIndex: the label of tokens that are not to be predicted; the data's convention says which.
  public init(labels: [Int32], offsets: [Int], ignoreIndex: Int32) {
    var rows: [Int] = []
    var targets: [Int] = []
    for (start, end) in zip(offsets, offsets.dropFirst()) where end > start {
      for position in start..<end - 1 where labels[position + 1] != ignoreIndex {
        rows.append(position)
        targets.append(Int(labels[position + 1]))
      }
    }
    self.rows = rows
    self.targets = targets
  }

  public var count: Int { rows.count }

  /// ``rows`` as int64 `[S]`.
  public func rows(on device: Device) throws -> Tensor { try Tensor(rows.map(Int64.init), device: device) }
}

/// The summed cross-entropy of the supervised positions. Logits exist only there, and only a chunk of them at a time.
///
/// - Parameters:
///   - hidden: `[T, width]`.
///   - head: the output embedding, width → vocabulary.
/// - Returns: a scalar in fp32: −Σ log p(target). Divide by the supervised tokens of the whole window.
public func causalLossSum(hidden: Tensor, supervision: Supervision, head: Linear) throws -> Tensor {
  try causalLossSum(
    states: hidden.selecting(supervision.rows(on: hidden.device)), supervision: supervision, head: head)
}

/// The same of the supervised positions' states alone, `[S, width]`.
public func causalLossSum(states: Tensor, supervision: Supervision, head: Linear) throws -> Tensor {
  guard supervision.count > 0 else { return try Tensor.zeros([], device: states.device) }
  let targets = try Tensor(supervision.targets.map(Int64.init), device: states.device)
  if head.adapters.isEmpty, head.bias == nil {
    if let weight = head.weight.parameter {
      return try states.linearCrossEntropy(weight: weight.value(like: states), labels: targets)
    }
    if let weight = head.weight.quantized, head.weight.computeType ?? states.dtype == states.dtype {
      return try states.linearCrossEntropy(weight: weight, labels: targets)
    }
  }

  // Through adapters: [chunk, vocabulary] in fp32 is what lives at one time.
  let chunk = 256
  var total: Tensor?
  for start in stride(from: 0, to: supervision.count, by: chunk) {
    let piece = start..<min(start + chunk, supervision.count)
    let labels = try targets.slice(piece)
    let loss = try checkpointed([try states.slice(piece)]) { inputs in
      try head(inputs[0]).to(.float32).crossEntropySum(labels)
    }
    total = try total.map { try $0 + loss } ?? loss
  }
  return total!
}
