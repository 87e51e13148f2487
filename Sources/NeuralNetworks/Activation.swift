import Torch

/// An activation function under the name that `config.json` gives it (`hidden_act`).
public final class Activation: Module {
  public let name: String
  private let function: (Tensor) throws -> Tensor
  private let printedName: String

  /// Nil when no function is called that.
  public init?(_ name: String) {
    switch name {
    case "silu", "swish": (function, printedName) = ({ try $0.silu() }, "SiLUActivation")
    case "gelu": (function, printedName) = ({ try $0.gelu() }, "GELUActivation")
    case "gelu_new": (function, printedName) = ({ try $0.gelu(approximateTanh: true) }, "NewGELUActivation")
    case "gelu_pytorch_tanh": (function, printedName) = ({ try $0.gelu(approximateTanh: true) }, "GELUTanh")
    case "relu": (function, printedName) = ({ try $0.relu() }, "ReLU")
    default: return nil
    }
    self.name = name
  }

  public func callAsFunction(_ input: Tensor) throws -> Tensor { try function(input) }

  /// act(gate) · up.
  public func gate(_ gate: Tensor, _ up: Tensor) throws -> Tensor {
    isSiLU ? try Tensor.swiGLU(gate, up) : try function(gate) * up
  }

  /// act(gate) · up for both side by side, `[T, 2 · size]`.
  public func gate(fused gateUp: Tensor) throws -> Tensor {
    guard !isSiLU else { return try Tensor.swiGLU(fused: gateUp) }
    let size = gateUp.size(1) / 2
    return try gate(gateUp.slice(0..<size, dimension: 1), gateUp.slice(size..<2 * size, dimension: 1))
  }

  /// x σ(x), for which there are fused kernels.
  package var isSiLU: Bool { name == "silu" || name == "swish" }

  public override var typeName: String { printedName }
}
