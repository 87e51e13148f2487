import NeuralNetworks
import Torch

/// AdamW: Adam with weight decay apart from the gradient (Loshchilov & Hutter 2019, arXiv:1711.05101), as
/// `torch.optim.AdamW` computes it.
///
/// p ← p − lr λ p;  m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;
/// p ← p − lr / (1 − β₁ᵗ) · m / (√v / √(1 − β₂ᵗ) + ε)
public final class AdamW: Optimizer {
  private struct Slot {
    let name: String
    let parameter: Parameter
    let mean: Tensor
    let square: Tensor
  }

  private let slots: [Slot]
  /// Indices into the parameters with the weight decay that each of them has.
  private let groups: [(indices: [Int], weightDecay: Double)]
  private let beta1: Double
  private let beta2: Double
  private let epsilon: Double
  public private(set) var stepCount = 0

  /// - Parameters:
  ///   - parameters: by the names that checkpoints give their state.
  ///   - weightDecay: for parameters that ``WeightDecayRule`` does not except.
  public init(
    _ parameters: [(key: String, parameter: Parameter)], beta1: Double = 0.9, beta2: Double = 0.999,
    epsilon: Double = 1e-8, weightDecay: Double = 0
  ) throws {
    slots = try parameters.map { name, parameter in
      func zeros() throws -> Tensor {
        try .zeros(parameter.shape, dtype: parameter.value.dtype, device: parameter.value.device)
      }
      return Slot(name: name, parameter: parameter, mean: try zeros(), square: try zeros())
    }
    let decays = parameters.map { WeightDecayRule.applies(to: $0.key) }
    groups = [
      (decays.indices.filter { decays[$0] }, weightDecay), (decays.indices.filter { !decays[$0] }, 0),
    ].filter { !$0.0.isEmpty }
    self.beta1 = beta1
    self.beta2 = beta2
    self.epsilon = epsilon
  }

  public func step(_ gradients: [Tensor], learningRate: Double) throws {
    stepCount += 1
    for (indices, weightDecay) in groups {
      try Tensor.adamWStep(
        indices.map { slots[$0].parameter.value }, gradients: indices.map { gradients[$0] },
        means: indices.map { slots[$0].mean }, squares: indices.map { slots[$0].square },
        learningRate: learningRate, beta1: beta1, beta2: beta2, epsilon: epsilon, weightDecay: weightDecay,
        step: stepCount)
    }
  }

  public func state() -> [(name: String, tensor: Tensor)] {
    slots.flatMap { [("\($0.name).exp_avg", $0.mean), ("\($0.name).exp_avg_sq", $0.square)] }
  }

  public func restore(stepCount: Int, _ tensor: (_ name: String) throws -> Tensor) throws {
    for slot in slots {
      for (name, moment) in [("\(slot.name).exp_avg", slot.mean), ("\(slot.name).exp_avg_sq", slot.square)] {
        let stored = try tensor(name)
        // Copying would broadcast.
        guard stored.shape == moment.shape else {
          throw TrainingError(
            "The optimizer's `\(name)` has the shape \(stored.shape), the parameter's is \(moment.shape).")
        }
        try moment.copyInPlace(stored)
      }
    }
    self.stepCount = stepCount
  }
}
