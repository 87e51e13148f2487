import Torch

/// A storage whose matrix products decode: what the quantized storages share.
public protocol QuantizedWeight: WeightStorage {
  var matrix: QuantizedMatrix { get }

  /// The type of the dense matrix that this one stands for.
  var dtype: DType { get }
}

extension QuantizedWeight {
  public var outFeatures: Int { matrix.rows }
  public var inFeatures: Int { matrix.columns }
  public var parameter: Parameter? { nil }
  public var quantized: QuantizedMatrix? { matrix }

  public func dense() throws -> Tensor { try matrix.dequantized(dtype) }

  public func linear(_ input: Tensor, bias: Tensor?) throws -> Tensor {
    let rows = try (input.rank == 2 ? input : input.reshaped(-1, inFeatures)).to(computeType ?? input.dtype)
    // A trained bias is no part of the frozen product.
    let trained = bias.flatMap { $0.requiresGradient ? $0 : nil }
    var output = try rows.quantizedLinear([matrix], bias: trained == nil ? bias?.to(rows.dtype) : nil)
    if let trained { output = try output + trained.to(output.dtype) }
    output = try output.to(input.dtype)
    return try input.rank == 2 ? output : output.reshaped(Array(input.shape.dropLast()) + [outFeatures])
  }

  /// Refuses a matrix of another shape; ``replace(with:)`` starts with it.
  func checkReplacement(_ replacement: Tensor) throws {
    guard replacement.shape == [outFeatures, inFeatures] else {
      throw TorchError(
        operation: "replace a weight",
        message:
          "the storage holds [\(outFeatures), \(inFeatures)], and the new matrix is \(replacement.shape)")
    }
  }
}
