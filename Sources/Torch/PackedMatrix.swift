import CTorch

/// A bf16 matrix in three quarters of its bytes, without loss, beside the matrix itself: what reads it at the speed of memory, as generation
/// does for each token, then takes less time. How it lies is told in Sources/CTorch/Kernels/PackedMatrix.cpp.
package final class PackedMatrix {
  private let matrix: Tensor
  private let version: Int
  private let bytes: Tensor
  private let bases: Tensor
  private let exceptions: Tensor

  /// Whether this processor multiplies such matrices.
  package static var isSupported: Bool { ct_has_packed_products() }

  /// Packs `matrix` `[rows, columns]`, bf16 on the CPU; nil when it has columns that are not a multiple of 64, or numbers too far from each
  /// other.
  package init?(_ matrix: Tensor) throws {
    var packed = CTPackedMatrix()
    try matrix.checkedStatus("pack") { ct_pack(matrix.handle, &packed) }
    guard let bytes = packed.bytes, let bases = packed.bases, let exceptions = packed.exceptions else {
      return nil
    }
    self.matrix = matrix
    version = matrix.version
    self.bytes = Tensor(owning: bytes)
    self.bases = Tensor(owning: bases)
    self.exceptions = Tensor(owning: exceptions)
  }

  package var byteCount: Int { bytes.byteCount + bases.byteCount + exceptions.byteCount }

  /// Whether this is what `tensor` holds now.
  package func isCopy(of tensor: Tensor) -> Bool { tensor === matrix && tensor.version == version }

  /// The matrix as it was, to the bit.
  package func unpacked() throws -> Tensor {
    var value = engineValue
    return try Tensor.checked("unpack", bytes) { ct_unpack(&value) }
  }

  /// x Wᵀ + b for few rows of x, `[rows, in]`; nil where there is no kernel for that. No gradient.
  package func linear(_ input: Tensor, bias: Tensor?) throws -> Tensor? {
    var (value, result) = (engineValue, OpaquePointer?.none)
    try input.checkedStatus("packed linear layer", matrix) {
      ct_packed_linear(input.handle, matrix.handle, &value, bias?.handle, &result)
    }
    return result.map(Tensor.init(owning:))
  }

  var engineValue: CTPackedMatrix {
    CTPackedMatrix(
      rows: Int64(matrix.size(0)), columns: Int64(matrix.size(1)), bytes: bytes.handle, bases: bases.handle,
      exceptions: exceptions.handle)
  }
}

/// A linear layer that is no more than its weight: dense, frozen, without adapters.
package struct PlainProjection {
  /// `[out, in]`
  package let weight: Tensor
  /// `[out]`
  package let bias: Tensor?
  /// The same weight in fewer bytes.
  package let packed: PackedMatrix?

  package init(weight: Tensor, bias: Tensor?, packed: PackedMatrix? = nil) {
    self.weight = weight
    self.bias = bias
    self.packed = packed
  }

  var engineValue: CTPackedMatrix { packed?.engineValue ?? CTPackedMatrix() }
}
