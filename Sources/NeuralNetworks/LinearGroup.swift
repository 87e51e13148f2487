import Torch

/// Linear layers that read the same input, such as query, key and value, computed as one product.
///
/// The layers stay what they are, with their names and adapters. Their weights are laid behind one another in one
/// tensor, of which each layer's is a view; whenever a layer's weight is another, for instance a merged or quantized
/// one, the group steps back and the layers are computed one by one.
///
/// Low-rank adapters of the group share one dropout mask over the input.
public final class LinearGroup {
  private let layers: [Linear]
  private var stacked: Stacked?

  private struct Stacked {
    let weight: Tensor  // [Σ out, in]
    let bias: Tensor?  // [Σ out]
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

  /// Lays the weights behind one another; does nothing for storages that are not dense.
  public func stack() throws {
    let parameters = layers.compactMap(\.weight.parameter)
    let biases = layers.compactMap(\.bias)
    guard parameters.count == layers.count, biases.isEmpty || biases.count == layers.count,
      Set(parameters.map(\.value.dtype)).count == 1
    else { return }
    let weight = try Tensor.concatenated(parameters.map(\.value))
    let bias = biases.isEmpty ? nil : try Tensor.concatenated(biases.map(\.value))
    let sizes = layers.map(\.outFeatures)
    for (parameter, view) in zip(parameters, try weight.split(sizes, dimension: 0)) { parameter.value = view }
    for (parameter, view) in zip(biases, try bias?.split(sizes, dimension: 0) ?? []) {
      parameter.value = view
    }
    stacked = Stacked(
      weight: weight, bias: bias, weights: parameters.map(\.value), biases: biases.map(\.value))
  }

  /// `[T, in]` → `[T, Σ out]`, the outputs side by side; nil when the layers must be computed one by one.
  public func callAsFunction(_ input: Tensor) throws -> Tensor? {
    guard let stacked, isIntact(stacked) else { return nil }
    return try LowRankProduct(layers, weight: stacked.weight, bias: stacked.bias)?.callAsFunction(input)
  }

  private func isIntact(_ stacked: Stacked) -> Bool {
    zip(layers, stacked.weights).allSatisfy { $0.weight.parameter?.value === $1 && !$1.requiresGradient }
      && zip(layers, stacked.biases).allSatisfy { $0.bias?.value === $1 && !$1.requiresGradient }
  }
}
