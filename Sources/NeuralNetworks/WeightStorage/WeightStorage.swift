import Torch

/// How a linear layer holds its weight matrix: dense, or packed in some quantized form.
///
/// A layer has a storage; it is not subclassed for one. Adapters see only this protocol, so every method works over
/// every storage.
public protocol WeightStorage: AnyObject {
  /// Rows of the matrix: features that come out.
  var outFeatures: Int { get }
  /// Columns of the matrix: features that go in.
  var inFeatures: Int { get }

  /// The matrix as a parameter of the checkpoint; nil when it is held in another form.
  var parameter: Parameter? { get }

  /// x Wᵀ + b for `input` `[…, in]`, computed in the input's type.
  func linear(_ input: Tensor, bias: Tensor?) throws -> Tensor

  /// The matrix `[out, in]`, unpacked when need be.
  func dense() throws -> Tensor

  /// Puts `matrix` `[out, in]` in place of the one held, as merging an adapter does.
  func replace(with matrix: Tensor) throws
}
