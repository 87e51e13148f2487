import Torch

/// A weight in NF4 or FP4: four bits an element and a constant for every block of 64, which with double quantization takes
/// 8 bits and a little, 4.127 bits an element together (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).
///
/// Codes, constants and tensors in checkpoints are those of bitsandbytes.
public final class FourBitWeight: QuantizedWeight {
  public private(set) var matrix: QuantizedMatrix
  public let dtype: DType
  public let computeType: DType?

  /// A matrix out of a checkpoint.
  ///
  /// - Parameters:
  ///   - dtype: the type of the weight before it was quantized, in which it is given back.
  ///   - computeType: the type to multiply in; nil is the input's.
  public init(_ matrix: QuantizedMatrix, dtype: DType, computeType: DType? = nil) {
    precondition(matrix.encoding == .nf4 || matrix.encoding == .fp4, "four bits are NF4 or FP4")
    self.matrix = matrix
    self.dtype = dtype
    self.computeType = computeType
  }

  /// Quantizes `weight` `[out, in]`.
  public convenience init(
    quantizing weight: Tensor, encoding: QuantizedMatrix.Encoding, blockSize: Int = 64,
    doubleQuantization: Bool = false, computeType: DType? = nil
  ) throws {
    self.init(
      try QuantizedMatrix(
        fourBit: encoding, weight, blockSize: blockSize, doubleQuantization: doubleQuantization),
      dtype: weight.dtype, computeType: computeType)
  }

  public func replace(with replacement: Tensor) throws {
    try checkReplacement(replacement)
    matrix = try QuantizedMatrix(
      fourBit: matrix.encoding, replacement, blockSize: matrix.blockSize,
      doubleQuantization: matrix.nested != nil)
  }

  /// `weight`, `weight.absmax`, `weight.quant_map`, with double quantization `weight.nested_absmax` and
  /// `weight.nested_quant_map`, and the sizes as JSON in `weight.quant_state.bitsandbytes__nf4`.
  public func checkpointTensors(_ name: String) throws -> [(name: String, tensor: Tensor)] {
    guard let constants = matrix.constants else { preconditionFailure("four bits without constants") }
    let table = try QuantizedMatrix.values(of: matrix.encoding)
    var tensors: [(name: String, tensor: Tensor)] = [
      (name, try matrix.codes.reshaped(-1, 1)), ("\(name).absmax", constants), ("\(name).quant_map", table),
    ]
    // As Python's json.dumps writes it.
    var state =
      #"{"quant_type": "\#(matrix.encoding.rawValue)", "blocksize": \#(matrix.blockSize), "#
      + #""dtype": "\#(dtype.torchName)", "shape": [\#(outFeatures), \#(inFeatures)]"#
    if let nested = matrix.nested {
      tensors += [("\(name).nested_absmax", nested.scales), ("\(name).nested_quant_map", nested.table)]
      state +=
        #", "nested_blocksize": \#(nested.blockSize), "nested_dtype": "float32", "nested_offset": \#(nested.offset)"#
    }
    let bytes = Array((state + "}").utf8)
    return tensors + [("\(name).quant_state.bitsandbytes__\(matrix.encoding.rawValue)", try Tensor(bytes))]
  }
}
