import NeuralNetworks
import Torch

/// Decides which triplets of AdaLoRA live: those of the highest importance over all layers, as many as the budget allows
/// (Zhang et al. 2023, arXiv:2303.10512, section 3.2).
///
/// Of every element, I = |w · ∂L/∂w| is smoothed to a sensitivity Ī ← β₁ Ī + (1 − β₁) I and an uncertainty
/// Ū ← β₂ Ū + (1 − β₂) |I − Ī|; its score is Ī Ū. A triplet's importance is the score of its singular value and the mean scores of
/// its two vectors.
final class RankAllocator {
  private struct Importance {
    let parameter: Parameter
    let sensitivity: Tensor
    let uncertainty: Tensor

    init(_ parameter: Parameter) throws {
      self.parameter = parameter
      sensitivity = try .zeros(parameter.shape, device: parameter.value.device)
      uncertainty = try .zeros(parameter.shape, device: parameter.value.device)
    }
  }

  private let layers: [AdaLoRALinear]
  /// Of A, B and E of every layer; none before training begins.
  private var importances: [[Importance]] = []

  init(_ layers: [AdaLoRALinear]) {
    self.layers = layers
  }

  /// Triplets of all layers, living or not.
  var tripletCount: Int { layers.reduce(0) { $0 + $1.places.count } }

  /// Forgets what was observed.
  func begin() throws {
    importances = try layers.map { layer in try layer.parameters.map { try Importance($0.parameter) } }
  }

  /// What must be kept to go on from here.
  func state(of layer: Int) -> [(name: String, tensor: Tensor)] {
    guard importances.indices.contains(layer) else { return [] }
    return zip(layers[layer].parameters, importances[layer]).flatMap { named, importance in
      [
        ("\(named.name).exp_avg_ipt", importance.sensitivity),
        ("\(named.name).exp_avg_unc", importance.uncertainty),
      ]
    }
  }

  /// Takes up the gradients of the step that was just done.
  func observe(beta1: Double, beta2: Double) throws {
    try withoutGradient {
      for importance in importances.joined() where importance.parameter.count > 0 {
        let value = try importance.parameter.value.detached()
        let gradient =
          try importance.parameter.value.gradient ?? Tensor.zeros(value.shape, device: value.device)
        let current = try (value * gradient).absolute()
        try importance.sensitivity.copyInPlace(importance.sensitivity * beta1 + current * (1 - beta1))
        let distance = try (current - importance.sensitivity).absolute()
        try importance.uncertainty.copyInPlace(importance.uncertainty * beta2 + distance * (1 - beta2))
      }
    }
  }

  /// Sets the singular values of all but the `budget` most important triplets to zero.
  ///
  /// - Returns: which of each layer's triplets live.
  func allocate(_ budget: Int) throws -> [[Bool]] {
    let scores = try layers.indices.map { try self.scores(of: $0) }
    let ranked = scores.joined().sorted()
    let removed = ranked.count - budget
    let threshold = removed > 0 ? ranked[removed - 1] : -Float.infinity
    let kept = scores.map { $0.map { $0 > threshold } }
    try mask(kept.map { kept in kept.indices.filter { kept[$0] } })
    return kept
  }

  /// Sets the singular values of the triplets that do not live to zero.
  func mask(_ living: [[Int]]) throws {
    try withoutGradient {
      for (layer, living) in zip(layers, living) where living.count < layer.places.count {
        var mask = [Float](repeating: 0, count: layer.places.count)
        for index in living { mask[index] = 1 }
        let kept = try Tensor(mask, shape: [mask.count, 1], device: layer.e.value.device)
        try layer.e.value.copyInPlace(layer.e.value * kept)
      }
    }
  }

  private func scores(of layer: Int) throws -> [Float] {
    guard !layers[layer].places.isEmpty else { return [] }
    return try withoutGradient {
      let scores = try importances[layer].map { try $0.sensitivity * $0.uncertainty }  // A, B, E
      let vectors = try Tensor.stacked([scores[0].mean(1), scores[1].mean(0)], dimension: 1)  // [r, 2]
      return try (scores[2].reshaped(-1) + vectors.sum(1)).floats()
    }
  }
}
