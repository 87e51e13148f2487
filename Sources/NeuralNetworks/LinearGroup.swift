import Torch

/// Linear layers that read the same input, such as query, key and value, computed as one product.
///
/// The layers stay what they are, with their names and adapters. Dense weights are laid behind one another in one
/// tensor, of which each layer's is a view; quantized ones stay where they are, and are decoded behind one another.
/// Whenever a layer's weight is another, for instance a merged one, the group steps back and the layers are computed
/// one by one.
///
/// Low-rank adapters of the group share one dropout mask over the input.
public final class LinearGroup {
  private let layers: [Linear]
  private var stacked: Stacked?
  /// The weight of all layers in fewer bytes, for generation.
  private var packing = Packing()

  private struct Stacked {
    let weight: LowRankProduct.Weight  // [Σ out, in]
    let bias: Tensor?  // [Σ out]
    /// What the storages held when they were stacked: views of `weight`, or codes.
    let weights: [Tensor]
    let biases: [Tensor]
  }

  public init(_ layers: [Linear]) {
    self.layers = layers
  }

  /// Layers that share the parameters of another group's, and how these lie in memory.
  public init(_ layers: [Linear], sharing other: LinearGroup) {
    self.layers = layers
    stacked = other.stacked
  }

  /// Lays the weights behind one another; does nothing for storages of different forms.
  public func stack() throws {
    stacked = nil
    let biases = layers.compactMap(\.bias)
    guard biases.isEmpty || biases.count == layers.count else { return }
    let weight: LowRankProduct.Weight
    let matrices = layers.compactMap(\.weight.quantized)
    let parameters = layers.compactMap(\.weight.parameter)
    if matrices.count == layers.count, Set(layers.map(\.weight.computeType)).count == 1 {
      weight = .quantized(matrices, computeType: layers[0].weight.computeType)
    } else if parameters.count == layers.count, Set(parameters.map(\.value.dtype)).count == 1 {
      let tensor = try Tensor.concatenated(parameters.map(\.value))
      for (parameter, view) in zip(parameters, try tensor.split(layers.map(\.outFeatures), dimension: 0)) {
        parameter.value = view
      }
      weight = .dense(tensor)
    } else {
      return
    }
    let bias = biases.isEmpty ? nil : try Tensor.concatenated(biases.map(\.value))
    for (parameter, view) in zip(biases, try bias?.split(layers.map(\.outFeatures), dimension: 0) ?? []) {
      parameter.value = view
    }
    stacked = Stacked(
      weight: weight, bias: bias, weights: layers.compactMap { Self.held($0.weight) },
      biases: biases.map(\.value))
  }

  /// `[T, in]` → `[T, Σ out]`, the outputs side by side; nil when the layers must be computed one by one.
  public func callAsFunction(_ input: Tensor) throws -> Tensor? {
    guard let stacked, isIntact(stacked) else { return nil }
    return try LowRankProduct(layers, weight: stacked.weight, bias: stacked.bias)?.callAsFunction(input)
  }

  /// The weight of all layers in one, and their bias, when that is all there is to them: dense, frozen, without adapters.
  package var plain: PlainProjection? {
    guard let stacked, case .dense(let weight) = stacked.weight, layers.allSatisfy(\.adapters.isEmpty),
      isIntact(stacked)
    else { return nil }
    return PlainProjection(weight: weight, bias: stacked.bias, packed: packing.copy(of: weight))
  }

  package func pack(_ matrix: PackedMatrix) { packing.matrix = matrix }

  private func isIntact(_ stacked: Stacked) -> Bool {
    zip(layers, stacked.weights).allSatisfy { Self.held($0.weight) === $1 && !$1.requiresGradient }
      && zip(layers, stacked.biases).allSatisfy { $0.bias?.value === $1 && !$1.requiresGradient }
  }

  private static func held(_ storage: any WeightStorage) -> Tensor? {
    storage.quantized?.codes ?? storage.parameter?.value
  }
}

extension LinearGroup: PackableWeight {}
