import Torch

/// A weight in signed bytes, each row scaled by its largest magnitude (LLM.int8, Dettmers et al. 2022, arXiv:2208.07339).
///
/// Only the weight is quantized, and activations keep their type, unless ``multipliesBytes`` is set. Codes, scales and tensors in
/// checkpoints are those of bitsandbytes.
public final class Int8Weight: QuantizedWeight {
  public private(set) var matrix: QuantizedMatrix
  public let dtype: DType
  /// Whether products with many tokens quantize these too and multiply bytes; see ``QuantizedMatrix/multipliesBytes``.
  public var multipliesBytes: Bool {
    get { matrix.multipliesBytes }
    set { matrix.multipliesBytes = newValue }
  }

  /// A matrix out of a checkpoint; `dtype` is the type in which it is given back.
  public init(_ matrix: QuantizedMatrix, dtype: DType) {
    precondition(matrix.encoding == .int8, "signed bytes")
    self.matrix = matrix
    self.dtype = dtype
  }

  /// Quantizes `weight` `[out, in]`.
  public convenience init(quantizing weight: Tensor) throws {
    self.init(try QuantizedMatrix(int8: weight), dtype: weight.dtype)
  }

  public func replace(with replacement: Tensor) throws {
    try checkReplacement(replacement)
    let multipliesBytes = multipliesBytes
    matrix = try QuantizedMatrix(int8: replacement)
    self.multipliesBytes = multipliesBytes
  }

  /// `weight` int8 `[out, in]`, `SCB` fp32 `[out]` beside it, and `weight_format` 0, which means rows.
  public func checkpointTensors(_ name: String) throws -> [(name: String, tensor: Tensor)] {
    guard let constants = matrix.constants else { preconditionFailure("int8 without constants") }
    let module = name.hasSuffix("weight") ? String(name.dropLast("weight".count)) : name + "."
    return [
      (name, matrix.codes), ("\(module)SCB", constants),
      ("\(module)weight_format", try Tensor([UInt8(0)], shape: [])),
    ]
  }
}
