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

/// Where an optimizer's states lie between the steps.
enum StatePlacement {
  /// Beside the parameters.
  case device
  /// In the processor's memory, which a GPU reads by itself.
  case host
  /// In the pages of a file in this folder.
  case disk(folder: String)

  var isDevice: Bool { if case .device = self { true } else { false } }
}

/// An optimizer made of an ``UpdateRule`` and the states of its parameters.
///
/// Parameters in bf16 are updated in fp32 and rounded back up or down by chance: to the nearest, most updates would be lost.
final class RuleOptimizer: Optimizer {
  private struct Slot {
    let name: String
    let parameter: Parameter
    let settings: ParameterSettings
    let state: [(name: String, tensor: Tensor)]
  }

  private let rule: any UpdateRule
  private let slots: [Slot]
  private let placement: StatePlacement
  /// Of devices that do not reach the states where they lie.
  private var pagers: [Device: StatePager] = [:]
  private(set) var stepCount = 0

  /// - Parameters:
  ///   - parameters: by the names that checkpoints give their state.
  ///   - weightDecay: for parameters that ``WeightDecayRule`` does not except, where `settings` does not say otherwise.
  ///   - settings: of single parameters, by name and shape; nil where they are those of all.
  ///   - placement: where the states lie.
  /// - Throws: `FileError` when there is no room for such a file, `TorchError` when memory runs out.
  init(
    _ rule: any UpdateRule, _ parameters: [(key: String, parameter: Parameter)], weightDecay: Double = 0,
    placement: StatePlacement = .device,
    settings: (_ key: String, _ shape: [Int]) -> ParameterSettings? = { _, _ in nil }
  ) throws {
    self.rule = rule
    let shapes = parameters.map { rule.state(of: $0.parameter.shape) }
    let sizes = shapes.joined().map { $0.shape.reduce($0.dtype.byteCount, *) }
    var pages: PagedMemory?
    if case .disk(let folder) = placement { pages = try PagedMemory(in: folder, sizes: sizes) }
    self.placement = placement
    slots = try zip(parameters, shapes).map { parameter, shapes in
      let device = parameter.parameter.value.device
      return Slot(
        name: parameter.key, parameter: parameter.parameter,
        settings: settings(parameter.key, parameter.parameter.shape)
          ?? ParameterSettings(weightDecay: WeightDecayRule.applies(to: parameter.key) ? weightDecay : 0),
        state: try shapes.map { state in
          if let pages { return (state.name, try pages.zeros(state.shape, dtype: state.dtype)) }
          let zeros = try Tensor.zeros(state.shape, dtype: state.dtype, device: device)
          return (state.name, placement.isDevice ? zeros : try zeros.copiedToHost())
        })
    }
    guard !placement.isDevice else { return }
    for device in Set(slots.map(\.parameter.value.device)) where device.kind != .cpu {
      pagers[device] = try StatePager(device)
    }
  }

  func step(_ gradients: [Tensor], learningRate: Double) throws {
    stepCount += 1
    try withoutGradient {
      let pairs = Array(zip(slots, gradients))
      let isAlone = { (slot: Slot) in !self.placement.isDevice || slot.parameter.value.dtype == .bfloat16 }
      let together = Dictionary(grouping: pairs.filter { !isAlone($0.0) }) { $0.0.settings.rate }
      for (rate, pairs) in together {
        let updates = pairs.map { slot, gradient in
          update(slot, slot.parameter.value, gradient, state: slot.state.map(\.tensor))
        }
        try rule.update(updates, learningRate: learningRate * rate, step: stepCount)
      }
      // One at a time, so that few parameters' states, and no more than one wide copy, need be in memory.
      let byDevice = Dictionary(grouping: pairs.filter { isAlone($0.0) }) { $0.0.parameter.value.device }
      for (device, alone) in byDevice {
        let update = { (index: Int, state: [Tensor]) in
          let (slot, gradient) = alone[index]
          try self.updateAlone(slot, gradient, state: state, learningRate: learningRate * slot.settings.rate)
        }
        let states = alone.map { $0.0.state.map(\.tensor) }
        if let pager = pagers[device] {
          try pager.forEach(states, update)
        } else {
          for (index, state) in states.enumerated() { try update(index, state) }
        }
      }
    }
  }

  private func updateAlone(_ slot: Slot, _ gradient: Tensor, state: [Tensor], learningRate: Double) throws {
    let value = slot.parameter.value
    let wide = try value.dtype == .bfloat16 ? value.detached().to(.float32) : value
    try rule.update(
      [update(slot, wide, gradient.to(wide.dtype), state: state)], learningRate: learningRate,
      step: stepCount)
    if wide !== value { try value.copyInPlace(roundingStochastically: wide) }
  }

  private func update(_ slot: Slot, _ value: Tensor, _ gradient: Tensor, state: [Tensor]) -> ParameterUpdate {
    ParameterUpdate(value: value, gradient: gradient, state: state, weightDecay: slot.settings.weightDecay)
  }

  func state() throws -> [(name: String, tensor: Tensor)] {
    for pager in pagers.values { try pager.finish() }
    return slots.flatMap { slot in slot.state.map { ("\(slot.name).\($0.name)", $0.tensor) } }
  }

  func restore(stepCount: Int, _ tensor: (_ name: String) throws -> Tensor) throws {
    for (name, own) in try state() {
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
