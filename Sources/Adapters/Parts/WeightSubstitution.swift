import NeuralNetworks
import Torch

/// A linear layer's weight in another form while an adapter is at work.
///
/// Adapters are taken out in the reverse of the order in which they were put in, so that each finds the weight that it displaced.
final class WeightSubstitution: AdapterPart {
  private let layer: Linear
  private let substitute: any WeightStorage
  /// What the substitute was made of.
  private let original: any WeightStorage
  private var displaced: (any WeightStorage)?

  /// - Parameter layer: with nothing but the base's own weight.
  init(_ layer: Linear, by substitute: any WeightStorage) {
    self.layer = layer
    self.substitute = substitute
    original = layer.weight
  }

  var parameters: [(key: String, parameter: Parameter)] { [] }

  func insert() {
    guard displaced == nil else { return }
    displaced = layer.weight
    layer.weight = substitute
  }

  func remove() {
    if let displaced { layer.weight = displaced }
    displaced = nil
  }

  func merge() throws {
    guard layer.weight !== original else { return insert() }
    // Another adapter is merged: W + ΔW + (Q − W).
    let current = try layer.weight.dense()
    let change = try substitute.dense().to(.float32) - original.dense().to(.float32)
    displaced = layer.weight
    layer.weight = DenseWeight(Parameter(try (current.to(.float32) + change).to(current.dtype)))
  }

  func unmerge() { remove() }
}
