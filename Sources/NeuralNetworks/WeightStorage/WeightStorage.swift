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

  /// The matrix as products decode it; nil when it is dense.
  var quantized: QuantizedMatrix? { get }

  /// The type that the layer computes in whatever its input's is; nil is the input's.
  var computeType: DType? { get }

  /// x Wᵀ + b for `input` `[…, in]`, in the input's type.
  func linear(_ input: Tensor, bias: Tensor?) throws -> Tensor

  /// The matrix `[out, in]`, unpacked when need be.
  func dense() throws -> Tensor

  /// Puts `matrix` `[out, in]` in place of the one held, as merging an adapter does; a quantized storage quantizes it anew.
  ///
  /// - Throws: ``TorchError`` when the storage's form cannot be made of numbers here.
  func replace(with matrix: Tensor) throws

  /// What checkpoints hold of the matrix: tensors under `name`, the weight's own, and names derived from it.
  func checkpointTensors(_ name: String) throws -> [(name: String, tensor: Tensor)]
}

extension WeightStorage {
  public var quantized: QuantizedMatrix? { nil }
  public var computeType: DType? { nil }

  public func checkpointTensors(_ name: String) throws -> [(name: String, tensor: Tensor)] {
    [(name, try dense())]
  }
}
