import NeuralNetworks
import Torch

/// How an optimizer changes one parameter: its formula, and the state that the formula keeps.
///
/// ``RuleOptimizer`` holds the states, in memory or paged, saves them and gives them back.
protocol UpdateRule {
  /// The state of a parameter of this shape, all zeros at first, by the names that checkpoints give it.
  func state(of shape: [Int]) -> [StateShape]

  /// Changes the parameters in place.
  ///
  /// - Parameter step: counts from 1.
  func update(_ parameters: [ParameterUpdate], learningRate: Double, step: Int) throws
}

/// A tensor of an optimizer's state.
struct StateShape {
  /// `exp_avg`
  let name: String
  let shape: [Int]
  var dtype = DType.float32
}

/// One parameter with what its update needs.
struct ParameterUpdate {
  /// Changed in place.
  let value: Tensor
  /// Divided and clipped; the rule may write to it.
  let gradient: Tensor
  /// In the order of ``UpdateRule/state(of:)``, on the parameter's device; changed in place.
  let state: [Tensor]
  let weightDecay: Double
}

/// How one parameter is trained among the others.
struct ParameterSettings {
  /// What the learning rate is multiplied with.
  var rate = 1.0
  var weightDecay: Double
}

/// An optimizer made of an ``UpdateRule`` and the states of its parameters.
final class RuleOptimizer: Optimizer {
  private struct Slot {
    let name: String
    let parameter: Parameter
    let settings: ParameterSettings
    let state: [(name: String, tensor: Tensor)]
  }

  private let rule: any UpdateRule
  private let slots: [Slot]
  private let isPaged: Bool
  private(set) var stepCount = 0

  /// - Parameters:
  ///   - parameters: by the names that checkpoints give their state.
  ///   - weightDecay: for parameters that ``WeightDecayRule`` does not except, where `settings` does not say otherwise.
  ///   - settings: of single parameters, by name and shape; nil where they are those of all.
  ///   - pages: the folder for a file that the states are mapped from; nil holds them in the parameters' memory.
  /// - Throws: `FileError` when there is no room for such a file, `TorchError` when memory runs out.
  init(
    _ rule: any UpdateRule, _ parameters: [(key: String, parameter: Parameter)], weightDecay: Double = 0,
    pages folder: String? = nil,
    settings: (_ key: String, _ shape: [Int]) -> ParameterSettings? = { _, _ in nil }
  ) throws {
    self.rule = rule
    let shapes = parameters.map { rule.state(of: $0.parameter.shape) }
    let sizes = shapes.joined().map { $0.shape.reduce($0.dtype.byteCount, *) }
    let pages = try folder.map { try PagedMemory(in: $0, sizes: sizes) }
    isPaged = pages != nil
    slots = try zip(parameters, shapes).map { parameter, shapes in
      let device = parameter.parameter.value.device
      return Slot(
        name: parameter.key, parameter: parameter.parameter,
        settings: settings(parameter.key, parameter.parameter.shape)
          ?? ParameterSettings(weightDecay: WeightDecayRule.applies(to: parameter.key) ? weightDecay : 0),
        state: try shapes.map { state in
          let tensor =
            try pages?.zeros(state.shape, dtype: state.dtype)
            ?? .zeros(state.shape, dtype: state.dtype, device: device)
          return (state.name, tensor)
        })
    }
  }

  func step(_ gradients: [Tensor], learningRate: Double) throws {
    stepCount += 1
    try withoutGradient {
      guard isPaged else {
        let pairs = Dictionary(grouping: zip(slots, gradients)) { $0.0.settings.rate }
        for (rate, pairs) in pairs {
          let updates = pairs.map { update($0, $1, state: $0.state.map(\.tensor)) }
          try rule.update(updates, learningRate: learningRate * rate, step: stepCount)
        }
        return
      }
      // One at a time, so that no more than one parameter's state need be in memory.
      for (slot, gradient) in zip(slots, gradients) {
        let device = slot.parameter.value.device
        let state = try slot.state.map { try $0.tensor.to(device: device) }
        try rule.update(
          [update(slot, gradient, state: state)], learningRate: learningRate * slot.settings.rate,
          step: stepCount)
        for ((_, paged), used) in zip(slot.state, state) where paged !== used { try paged.copyInPlace(used) }
      }
    }
  }

  private func update(_ slot: Slot, _ gradient: Tensor, state: [Tensor]) -> ParameterUpdate {
    ParameterUpdate(
      value: slot.parameter.value, gradient: gradient, state: state, weightDecay: slot.settings.weightDecay)
  }

  func state() -> [(name: String, tensor: Tensor)] {
    slots.flatMap { slot in slot.state.map { ("\(slot.name).\($0.name)", $0.tensor) } }
  }

  func restore(stepCount: Int, _ tensor: (_ name: String) throws -> Tensor) throws {
    for (name, own) in state() {
      let stored = try tensor(name)
      // Copying would broadcast, and convert.
      guard stored.shape == own.shape, stored.dtype == own.dtype else {
        throw TrainingError(
          "The optimizer's `\(name)` has the shape \(stored.shape) in \(stored.dtype.torchName), and this run needs "
            + "\(own.shape) in \(own.dtype.torchName).")
      }
      try own.copyInPlace(stored)
    }
    self.stepCount = stepCount
  }
}
