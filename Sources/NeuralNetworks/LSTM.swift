import Torch

/// Long short-term memory over one sequence, in layers and both directions (Hochreiter & Schmidhuber 1997; as
/// `torch.nn.LSTM`, whose names and order of gates the parameters have).
///
///     i, f, g, o = W_ih x_t + b_ih + W_hh h_{t−1} + b_hh
///     c_t = σ(f) c_{t−1} + σ(i) tanh(g)
///     h_t = σ(o) tanh(c_t)
public final class LSTM: Module {
  /// The weights of one layer in one direction.
  private struct Cell {
    let suffix: String  // l0, l0_reverse, l1, …
    let inputWeight: Parameter  // [4 · hidden, in]
    let hiddenWeight: Parameter  // [4 · hidden, hidden]
    let inputBias: Parameter  // [4 · hidden]
    let hiddenBias: Parameter

    var parameters: [(name: String, parameter: Parameter)] {
      [
        ("weight_ih_\(suffix)", inputWeight), ("weight_hh_\(suffix)", hiddenWeight),
        ("bias_ih_\(suffix)", inputBias), ("bias_hh_\(suffix)", hiddenBias),
      ]
    }
  }

  public let inputSize: Int
  public let hiddenSize: Int
  public let layerCount: Int
  /// The probability with which features are dropped between layers in training.
  public let dropout: Double
  public var isTraining = false

  /// Forward and backward cell of each layer.
  private let cells: [(forward: Cell, backward: Cell)]

  /// Trainable fp32 layers that start as PyTorch's do: uniform within ±1 / √hidden.
  public init(
    inputSize: Int, hiddenSize: Int, layerCount: Int, dropout: Double = 0, device: Device = .cpu
  ) throws {
    self.inputSize = inputSize
    self.hiddenSize = hiddenSize
    self.layerCount = layerCount
    self.dropout = dropout
    let bound = 1 / Double(hiddenSize).squareRoot()
    func parameter(_ shape: [Int]) throws -> Parameter {
      let parameter = Parameter(try .uniform(shape, low: -bound, high: bound, device: device))
      try parameter.setTrainable(true)
      return parameter
    }
    func cell(_ suffix: String, inputSize: Int) throws -> Cell {
      try Cell(
        suffix: suffix, inputWeight: parameter([4 * hiddenSize, inputSize]),
        hiddenWeight: parameter([4 * hiddenSize, hiddenSize]), inputBias: parameter([4 * hiddenSize]),
        hiddenBias: parameter([4 * hiddenSize]))
    }
    cells = try (0..<layerCount).map { layer in
      let size = layer == 0 ? inputSize : 2 * hiddenSize
      return (
        forward: try cell("l\(layer)", inputSize: size),
        backward: try cell("l\(layer)_reverse", inputSize: size)
      )
    }
  }

  /// `[n, in]` → `[n, 2 · hidden]`: the forward direction's states before the backward one's.
  public func callAsFunction(_ input: Tensor) throws -> Tensor {
    var states = input
    for (layer, cell) in cells.enumerated() {
      if layer > 0, isTraining, dropout > 0 { states = try states.dropout(dropout) }
      states = try Tensor.concatenated(
        [
          run(cell.forward, over: states, order: Array(0..<input.size(0))),
          run(cell.backward, over: states, order: (0..<input.size(0)).reversed()),
        ], dimension: 1)
    }
    return states
  }

  /// `[n, in]` → `[n, hidden]`, one step after the other in `order`.
  private func run(_ cell: Cell, over input: Tensor, order: [Int]) throws -> Tensor {
    let projected = try input.linear(cell.inputWeight.value, bias: cell.inputBias.value)  // [n, 4 · hidden]
    var hidden = try Tensor.zeros([1, hiddenSize], device: input.device)
    var memory = hidden
    var outputs: [Int: Tensor] = [:]
    for step in order {
      let gates = try
        (projected.slice(step..<step + 1)
        + hidden.linear(cell.hiddenWeight.value, bias: cell.hiddenBias.value))
        .split(Array(repeating: hiddenSize, count: 4), dimension: 1)
      let (input, forget, candidate, output) = (gates[0], gates[1], gates[2], gates[3])
      memory = try forget.sigmoid() * memory + input.sigmoid() * candidate.tanh()
      hidden = try output.sigmoid() * memory.tanh()
      outputs[step] = hidden
    }
    return try Tensor.concatenated(order.sorted().map { outputs[$0]! })
  }

  public override var attachments: [(name: String, part: Part)] {
    cells.flatMap { $0.forward.parameters + $0.backward.parameters }.map {
      ($0.name, .parameter($0.parameter))
    }
  }

  public override var detail: String {
    let layers = layerCount > 1 ? ", num_layers=\(layerCount)" : ""
    let dropout = dropout > 0 ? ", dropout=\(dropout)" : ""
    return "\(inputSize), \(hiddenSize)\(layers), batch_first=True\(dropout), bidirectional=True"
  }
}
