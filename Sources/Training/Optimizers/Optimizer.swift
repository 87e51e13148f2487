import NeuralNetworks
import Torch

/// An update rule over a fixed list of named parameters, with a state that checkpoints keep.
public protocol Optimizer: AnyObject {
  /// Applies the gradients, given in the order of the parameters.
  func step(_ gradients: [Tensor], learningRate: Double) throws

  /// Updates done so far.
  var stepCount: Int { get }

  /// Everything that the next step depends on, by name.
  func state() throws -> [(name: String, tensor: Tensor)]

  /// Takes up a state that ``state()`` gave.
  func restore(stepCount: Int, _ tensor: (_ name: String) throws -> Tensor) throws
}
