import Torch

/// A tensor that lies over its file, and what gives its memory back: it is read again when it is used.
struct MappedTensor {
  private weak var tensor: Tensor?
  private let version: Int
  private let giveBack: @Sendable () -> Void

  init(_ tensor: Tensor, release: @escaping @Sendable () -> Void) {
    self.tensor = tensor
    version = tensor.version
    giveBack = release
  }

  /// Whether `other` is the tensor, and nobody has written to it: that would be undone by reading it again.
  func isIntact(in other: Tensor) -> Bool { other === tensor && other.version == version }

  /// Gives the memory of `other` back, if it is still the tensor as it was mapped.
  func release(_ other: Tensor) {
    if isIntact(in: other) { giveBack() }
  }
}
