import Torch

/// A weight matrix held as one tensor.
public final class DenseWeight: WeightStorage {
  public let matrix: Parameter

  public init(_ matrix: Parameter) {
    self.matrix = matrix
  }

  public var outFeatures: Int { matrix.value.size(0) }
  public var inFeatures: Int { matrix.value.size(1) }
  public var parameter: Parameter? { matrix }

  public func linear(_ input: Tensor, bias: Tensor?) throws -> Tensor {
    try input.linear(matrix.value(like: input), bias: bias)
  }

  public func dense() throws -> Tensor { matrix.value }

  public func replace(with matrix: Tensor) throws {
    self.matrix.replace(with: try matrix.to(self.matrix.value.dtype))
  }
}
