import Torch

/// Combines tensors of several adapters entry by entry, as PEFT's `merge_utils` does.
struct TaskArithmetic {
  var type: CombinationType
  /// The share of entries that stay.
  var density = 1.0
  var majoritySign = MajoritySign.total
  /// A mask of ones and zeros that keeps `density` of the entries, drawn on the processor: a seed means the same on every device.
  var mask: (_ shape: [Int], _ density: Double) throws -> Tensor = { shape, density in
    try Tensor.uniform(shape).less(density).to(.float32)
  }

  /// Σ weight · tensor, after what the type does to the entries.
  func combined(_ tensors: [Tensor], weights: [Double]) throws -> Tensor {
    let tensors = try Tensor.stacked(tensors.map(pruned))  // [n, …]
    let shape = [weights.count] + [Int](repeating: 1, count: tensors.rank - 1)
    let weighted = try tensors * Tensor(weights.map(Float.init), shape: shape, device: tensors.device)
    guard type.electsSigns else { return try weighted.sum(0) }
    let agreeing = try agreeing(tensors)
    return try (weighted * agreeing).sum(0) / agreeing.sum(0).clamped(1...Double.infinity)
  }

  private func pruned(_ tensor: Tensor) throws -> Tensor {
    guard density < 1 else { return tensor }
    switch type.pruning {
    case .none: return tensor
    case .random: return try tensor * mask(tensor.shape, density).to(device: tensor.device) / density
    case .magnitude:
      let flat = try tensor.reshaped(-1)
      let kept = try flat.absolute().topK(Int(density * Double(tensor.count))).indices
      let mask = try Tensor.zeros(flat.shape, device: flat.device)
      try mask.replaceInPlace(kept, with: .ones([kept.count], device: flat.device))
      return try (flat * mask).reshaped(tensor.shape)
    }
  }

  /// One where an entry has the sign of the majority; zero has none.
  private func agreeing(_ tensors: Tensor) throws -> Tensor {
    let sign = try tensors.greater(0).to(.float32) - tensors.less(0).to(.float32)
    let votes = try majoritySign == .total ? tensors.sum(0) : sign.sum(0)
    let majority = try (votes.less(0).to(.float32) * -2) + 1
    return try sign.equal(majority.unsqueezed(0)).to(.float32)
  }
}
