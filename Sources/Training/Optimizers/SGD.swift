import Torch

/// Stochastic gradient descent with momentum, as `torch.optim.SGD`: the decay is part of the gradient.
///
/// g ← g + λ p;  b ← μ b + (1 − τ) g, at first g;  p ← p − lr b, with Nesterov's momentum p ← p − lr (g + μ b)
struct SGD: UpdateRule {
  let momentum: Double
  let dampening: Double
  let nesterov: Bool

  /// - Throws: `ConfigurationError` for values of `optim_args` that cannot be meant.
  init(_ options: inout OptimizerOptions) throws {
    momentum = try options.number("momentum", default: 0, in: 0...1)
    dampening = try options.number("dampening", default: 0, in: 0...1)
    nesterov = try options.flag("nesterov", default: false)
    if nesterov, momentum == 0 || dampening != 0 {
      throw options.invalid(
        "nesterov", "needs a momentum and no dampening", remedy: "write `momentum=0.9,nesterov=true`")
    }
  }

  func state(of shape: [Int]) -> [StateShape] {
    momentum == 0 ? [] : [StateShape(name: "momentum_buffer", shape: shape)]
  }

  func update(_ parameters: [ParameterUpdate], learningRate: Double, step: Int) throws {
    for parameter in parameters {
      let gradient = parameter.gradient
      if parameter.weightDecay != 0 {
        try gradient.addInPlace(parameter.value.detached().to(gradient.dtype), scale: parameter.weightDecay)
      }
      guard let buffer = parameter.state.first else {
        try parameter.value.addInPlace(gradient, scale: -learningRate)
        continue
      }
      if step == 1 {
        try buffer.copyInPlace(gradient)
      } else {
        try buffer.scaleInPlace(momentum)
        try buffer.addInPlace(gradient, scale: 1 - dampening)
      }
      if nesterov { try gradient.addInPlace(buffer, scale: momentum) }
      try parameter.value.addInPlace(nesterov ? gradient : buffer, scale: -learningRate)
    }
  }

  static let entries = [
    OptimizerEntry(
      "sgd", options: ["momentum", "dampening", "nesterov"],
      summary: "Gradient descent; `optim_args: momentum=0.9` gives it momentum",
      rule: { try SGD(&$1) })
  ]
}
