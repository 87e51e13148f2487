import Foundation
import Torch

/// Adafactor: the second moment of a matrix as a product of its rows' and columns' means (Shazeer & Stern 2018,
/// arXiv:1804.04235), with the settings that transformers' Trainer gives it: the learning rate from outside, no first moment,
/// no scaling by the parameter.
///
/// β₂ = 1 − t^−0.8;  R ← β₂ R + (1 − β₂) mean_columns(g² + 1e−30);  C likewise over rows;
/// u = g / √(R C / mean(R));  u ← u / max(1, RMS(u));  p ← p (1 − lr λ) − lr u
struct Adafactor: UpdateRule {
  private static let decayRate = -0.8
  private static let epsilon = 1e-30
  private static let clipThreshold = 1.0

  func state(of shape: [Int]) -> [StateShape] {
    guard shape.count >= 2 else { return [StateShape(name: "exp_avg_sq", shape: shape)] }
    return [
      StateShape(name: "exp_avg_sq_row", shape: Array(shape.dropLast())),
      StateShape(name: "exp_avg_sq_col", shape: shape.dropLast(2) + [shape[shape.count - 1]]),
    ]
  }

  func update(_ parameters: [ParameterUpdate], learningRate: Double, step: Int) throws {
    let beta2 = 1 - pow(Double(step), Self.decayRate)
    for parameter in parameters {
      let gradient = try parameter.gradient.to(.float32)
      let squares = try gradient.squared() + Self.epsilon
      let update: Tensor
      if parameter.state.count == 2 {
        let (rows, columns) = (parameter.state[0], parameter.state[1])
        try average(rows, squares.mean(-1), beta2)
        try average(columns, squares.mean(-2), beta2)
        let rowFactor = try (rows / rows.mean(-1, keepingDimension: true)).reciprocalSquareRoot()
        // [rows, 1] · [1, columns]
        update =
          try rowFactor.unsqueezed(-1) * columns.unsqueezed(-2).reciprocalSquareRoot() * gradient
      } else {
        try average(parameter.state[0], squares, beta2)
        update = try parameter.state[0].reciprocalSquareRoot() * gradient
      }
      let meanSquareRoot = try update.norm() / Double(update.count).squareRoot()
      let excess = try (meanSquareRoot / Self.clipThreshold).maximum(.ones([], device: gradient.device))
      if parameter.weightDecay != 0 {
        try parameter.value.scaleInPlace(1 - learningRate * parameter.weightDecay)
      }
      try parameter.value.addInPlace(update / excess, scale: -learningRate)
    }
  }

  private func average(_ state: Tensor, _ new: Tensor, _ beta: Double) throws {
    try state.scaleInPlace(beta)
    try state.addInPlace(new, scale: 1 - beta)
  }

  static let entries = [
    OptimizerEntry(
      "adafactor",
      summary: "Adafactor (arXiv 1804.04235): rows and columns of the squares, next to no memory",
      rule: { _, _ in Adafactor() })
  ]
}
