import Torch

/// A weight in the blocks of a GGUF file, as they lie there: what is trained beside it is trained for that very file.
///
/// The blocks may be mapped from the file; nothing is copied then.
public final class GGUFWeight: QuantizedWeight {
  public let matrix: QuantizedMatrix
  public let dtype: DType

  /// - Parameter dtype: the type in which the matrix is given back, and multiplied by default.
  public init(_ matrix: QuantizedMatrix, dtype: DType) {
    self.matrix = matrix
    self.dtype = dtype
  }

  public func replace(with replacement: Tensor) throws {
    throw TorchError(
      operation: "replace a weight",
      message:
        "weights in blocks of \(matrix.encoding.rawValue) are read only; load the model with its weights unpacked to change "
        + "them")
  }
}
