import Torch

/// A frozen weight of which generation may read a copy in fewer bytes.
package protocol PackableWeight: AnyObject {
  /// What there is to the layer, with the copy; nil when it is more than a dense frozen weight.
  var plain: PlainProjection? { get }

  /// Takes a copy of ``plain``'s weight, which serves until the weight is another or is changed.
  func pack(_ matrix: PackedMatrix)
}

/// A layer's packed copy, which is forgotten when it is no copy any more.
struct Packing {
  var matrix: PackedMatrix?

  mutating func copy(of weight: Tensor) -> PackedMatrix? {
    if let matrix, !matrix.isCopy(of: weight) { self.matrix = nil }
    return matrix
  }
}
