import Torch

/// The largest difference between two tensors, relative to the largest element of the second; infinite when their shapes
/// differ. They may be on different devices.
///
/// The largest and not each element's own: a logit near zero is the difference of terms as large as the others, and its
/// rounding is theirs. NaN anywhere gives NaN, which no bound admits.
///
/// - Parameter floor: what the difference is relative to at least: 1 for gradients that should be zero, such as that of
///   the scores of a single key, which are differences of terms of order one.
public func relativeError(_ found: Tensor, _ expected: Tensor, floor: Double = 1e-30) throws -> Double {
  guard found.shape == expected.shape else { return .infinity }
  let wide = try expected.to(.float64, device: .cpu)
  return try (found.to(.float64, device: .cpu) - wide).absolute().max().item()
    / Swift.max(wide.absolute().max().item(), floor)
}
