/// Dynamic loss scaling (Micikevicius et al. 2018, arXiv:1710.03740): the loss is multiplied before the backward pass so that
/// small gradients do not vanish in fp16, and the gradients are divided again before they are used.
///
/// The factor doubles after 2,000 updates in a row, and is halved when a gradient overflows; that step updates nothing. The
/// numbers are those of PyTorch's `GradScaler`.
public struct LossScale: Codable, Sendable, Hashable {
  public private(set) var factor: Double
  /// Updates since the factor last changed.
  public private(set) var updates = 0

  private static let growthFactor = 2.0
  private static let backoffFactor = 0.5
  private let growthInterval: Int

  /// - Parameters:
  ///   - factor: the first one.
  ///   - growthInterval: updates in a row after which it grows.
  public init(factor: Double = 65_536, growthInterval: Int = 2000) {
    self.factor = factor
    self.growthInterval = growthInterval
  }

  /// Below this, what overflows is not the scaling's doing.
  var isExhausted: Bool { factor < 1 }

  /// Takes notice of a step, in which gradients overflowed or the parameters were updated.
  public mutating func step(overflowed: Bool) {
    guard !overflowed else {
      factor *= Self.backoffFactor
      updates = 0
      return
    }
    updates += 1
    if updates == growthInterval {
      factor *= Self.growthFactor
      updates = 0
    }
  }
}
