import Foundation
import Torch

/// RMSNorm: scales by the root mean square; no mean is subtracted.
///
/// y = x / √(mean(x²) + ε) · w, over the last dimension (Zhang & Sennrich 2019, arXiv:1910.07467).
public final class RMSNorm: Module {
  public let weight: Parameter
  public let epsilon: Double
  private let name: String

  public init(_ width: Int, epsilon: Double, name: String = "RMSNorm") throws {
    weight = try Parameter(shape: [width])
    self.epsilon = epsilon
    self.name = name
  }

  /// `[…, width]` → `[…, width]`.
  public func callAsFunction(_ input: Tensor) throws -> Tensor {
    try input.rmsNorm(weight: weight.value(like: input), epsilon: epsilon)
  }

  public override var typeName: String { name }
  public override var detail: String { "(\(weight.shape[0]),), eps=\(String(format: "%g", epsilon))" }
}
