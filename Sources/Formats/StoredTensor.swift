import Foundation

/// A tensor as it lies in a file: name, encoding, shape, and its bytes, which stay readable for as long as this value lives.
///
/// Elements are in row-major order, little-endian. Getting one reads nothing; pages are read when the bytes are touched.
public struct StoredTensor: Sendable {
  public let name: String
  public let type: StoredType
  /// Outermost dimension first, as in PyTorch, for every format. Empty for a scalar.
  public let shape: [Int]
  /// The encoded elements. Their address has no particular alignment.
  public let bytes: ByteView
  /// The file it comes from.
  public let source: URL
  /// The product of the shape.
  public let elementCount: Int

  /// The caller has checked that the bytes are as many as type and shape need.
  init(name: String, type: StoredType, shape: [Int], elementCount: Int, bytes: ByteView, source: URL) {
    self.name = name
    self.type = type
    self.shape = shape
    self.elementCount = elementCount
    self.bytes = bytes
    self.source = source
  }
}

/// The product of `shape`, or nil when a dimension is negative or the product overflows.
///
/// A zero dimension does not hide an overflow of the others, as in the reference implementation of safetensors.
func checkedElementCount(_ shape: [Int]) -> Int? {
  var product = 1
  for dimension in shape {
    guard dimension >= 0 else { return nil }
    let (next, overflow) = product.multipliedReportingOverflow(by: dimension)
    guard !overflow else { return nil }
    product = next
  }
  return product
}
