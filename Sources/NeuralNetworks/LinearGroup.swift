import Torch

/// Linear layers that read the same input, such as query, key and value, computed as one product.
///
/// The layers stay what they are, with their names and adapters. Quantized weights are decoded behind one another from where
/// they are, and dense ones are multiplied from where they are by processors that can; otherwise, and for generation,
/// they are laid behind one another in one tensor, of which each layer's is a view. Whenever a layer's weight is
/// another, for instance a merged one, the group steps back and the layers are computed one by one.
///
/// Low-rank adapters of the group share one dropout mask over the input.
public final class LinearGroup {
  private let layers: [Linear]
  /// Shared with groups of the same parameters.
  private let state: State
  /// The weight of all layers in fewer bytes, for generation.
  private var packing = Packing()

  private final class State {
    var fused: Fused?
  }

  private struct Fused {
    let weight: LowRankProduct.Weight  // [Σ out, in], of one matrix or several
    let bias: Tensor?  // [Σ out]
    /// What the storages held when they were fused: matrices of `weight`, views of it, or codes.
    let weights: [Tensor]
    let biases: [Tensor]
  }

  public init(_ layers: [Linear]) {
    self.layers = layers
    state = State()
  }

  /// Layers that share the parameters of another group's, and how these lie in memory.
  public init(_ layers: [Linear], sharing other: LinearGroup) {
    self.layers = layers
    state = other.state
  }

  /// Makes one product of the layers; does nothing for storages of different forms.
  public func fuse() throws {
    state.fused = nil
    guard biases != nil else { return }
    let matrices = layers.compactMap(\.weight.quantized)
    if matrices.count == layers.count, Set(layers.map(\.weight.computeType)).count == 1 {
      try fuse(.quantized(matrices, computeType: layers[0].weight.computeType))
    } else if let parameters = denseParameters {
      let values = parameters.map(\.value)
      guard Engine.hasBFloat16Products, values.allSatisfy({ $0.dtype == .bfloat16 && $0.device.kind == .cpu })
      else { return try stack() }
      try fuse(.dense(values))
    }
  }

  /// Lays dense weights behind one another, which makes single tokens fastest; does nothing for others, for trained ones, and where
  /// they lie so.
  public func stack() throws {
    guard stacked == nil, let parameters = denseParameters, let biases,
      !(parameters + biases).contains(where: \.isTrainable)
    else { return }
    let tensor = try Tensor.concatenated(parameters.map(\.value))
    for (parameter, view) in zip(parameters, try tensor.split(layers.map(\.outFeatures), dimension: 0)) {
      parameter.replace(with: view)
    }
    try fuse(.dense([tensor]))
  }

  /// `[T, in]` → `[T, Σ out]`, the outputs side by side; nil when the layers must be computed one by one.
  public func callAsFunction(_ input: Tensor) throws -> Tensor? {
    guard let fused = state.fused, isIntact(fused) else { return nil }
    return try LowRankProduct(layers, weight: fused.weight, bias: fused.bias)?.callAsFunction(input)
  }

  /// The weight of all layers in one, and their bias, when that is all there is to them: stacked, frozen, without adapters.
  package var plain: PlainProjection? {
    guard layers.allSatisfy(\.adapters.isEmpty), let stacked else { return nil }
    return PlainProjection(
      weight: stacked.weight, bias: stacked.bias, packed: packing.copy(of: stacked.weight))
  }

  package func pack(_ matrix: PackedMatrix) { packing.matrix = matrix }

  /// The layers' parameters when all are dense and of one type.
  private var denseParameters: [Parameter]? {
    let parameters = layers.compactMap(\.weight.parameter)
    return parameters.count == layers.count && Set(parameters.map(\.value.dtype)).count == 1
      ? parameters : nil
  }

  /// The weights in one, and the bias, when they are stacked and still the layers'.
  private var stacked: (weight: Tensor, bias: Tensor?)? {
    guard let fused = state.fused, case .dense(let matrices) = fused.weight, matrices.count == 1,
      isIntact(fused)
    else { return nil }
    return (matrices[0], fused.bias)
  }

  /// The layers' biases; nil when only some have one.
  private var biases: [Parameter]? {
    let biases = layers.compactMap(\.bias)
    return biases.isEmpty || biases.count == layers.count ? biases : nil
  }

  private func fuse(_ weight: LowRankProduct.Weight) throws {
    let biases = biases ?? []
    let bias = biases.isEmpty ? nil : try Tensor.concatenated(biases.map(\.value))
    for (parameter, view) in zip(biases, try bias?.split(layers.map(\.outFeatures), dimension: 0) ?? []) {
      parameter.value = view
    }
    state.fused = Fused(
      weight: weight, bias: bias, weights: layers.compactMap { Self.held($0.weight) },
      biases: biases.map(\.value))
  }

  private func isIntact(_ fused: Fused) -> Bool {
    zip(layers, fused.weights).allSatisfy { Self.held($0.weight) === $1 && !$1.requiresGradient }
      && zip(layers, fused.biases).allSatisfy { $0.bias?.value === $1 && !$1.requiresGradient }
  }

  private static func held(_ storage: any WeightStorage) -> Tensor? {
    storage.quantized?.codes ?? storage.parameter?.value
  }
}

extension LinearGroup: PackableWeight {}
