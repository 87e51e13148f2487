import Torch

/// Orthogonal matrices of skew-symmetric ones, Q = (I − S)(I + S)⁻¹ (Cayley 1846), for blocks `[n, size, size]` in fp32.
enum Cayley {
  /// The transform itself.
  static func exact(_ skew: Tensor) throws -> Tensor {
    let identity = try identity(skew.size(-1), device: skew.device)
    return try (identity - skew).dividedFromRight(by: identity + skew)
  }

  /// The inverse as a Neumann series, I + 2 S + 2 S² + … + Sᵏ: no solve, and orthogonal only as long as S is small. The sign
  /// of S is the other one, which is as good.
  ///
  /// - Parameter terms: as PEFT counts them; the last term is added once, the others but I twice.
  static func neumann(_ skew: Tensor, terms: Int) throws -> Tensor {
    let identity = try identity(skew.size(-1), device: skew.device)
    guard terms > 1 else { return try identity.expanded(skew.shape) }
    var sum = try identity + skew * 2
    guard terms > 2 else { return sum }
    var power = try skew.matmul(skew)
    sum = try sum + power * 2
    for _ in stride(from: 3, to: terms - 1, by: 1) {
      power = try power.matmul(skew)
      sum = try sum + power * 2
    }
    return try sum + power.matmul(skew)
  }

  /// `[size, size]`.
  static func identity(_ size: Int, device: Device) throws -> Tensor {
    let index = try Tensor.range(0..<size, device: device)
    return try index.unsqueezed(0).equal(index.unsqueezed(1)).to(.float32)
  }

  /// Ones at `count` of `total` places drawn at random, zeros elsewhere: the blocks that training leaves out of a step.
  static func randomPlaces(_ count: Int, of total: Int, device: Device) throws -> Tensor {
    let order = try Tensor.uniform([total]).sorted().indices
    return try order.less(Double(count)).to(.float32, device: device)
  }
}
