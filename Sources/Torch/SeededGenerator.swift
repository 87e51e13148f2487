import CTorch

/// A random generator of its own, beside the process's: the numbers that PyTorch's `torch.Generator().manual_seed(seed)` gives
/// on the CPU, the same on every machine.
public struct SeededGenerator {
  private let state: Tensor

  public init(seed: UInt64) throws {
    state = try Tensor.checked("seed") { ct_seeded_state(seed) }
  }

  /// Drawn uniformly from `[low, high)`, in fp32 on the CPU.
  public func uniform(_ shape: [Int], low: Double = 0, high: Double = 1) throws -> Tensor {
    try Tensor.checked("uniform\(shape)") {
      shape.withShape { ct_uniform_from(state.handle, $0, $1, low, high) }
    }
  }

  /// Drawn from the standard normal distribution, in fp32 on the CPU.
  public func normal(_ shape: [Int]) throws -> Tensor {
    try Tensor.checked("normal\(shape)") {
      shape.withShape { ct_normal_from(state.handle, $0, $1) }
    }
  }
}
