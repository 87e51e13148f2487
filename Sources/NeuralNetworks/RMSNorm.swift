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
    // fp32: squares of bf16 values lose the small ones. The weight multiplies after rounding back, as in Llama.
    let wide = try input.to(.float32)
    let variance = try wide.squared().mean(-1, keepingDimension: true)
    let normalized = try (wide * (variance + epsilon).reciprocalSquareRoot()).to(input.dtype)
    return try weight.value(like: input) * normalized
  }

  public override var typeName: String { name }
  public override var detail: String { "(\(weight.shape[0]),), eps=\(String(format: "%g", epsilon))" }
}
