import NeuralNetworks
import Torch

/// Something trainable around one linear layer that a change of its weight can express: what a method on linear layers
/// writes down.
protocol LinearChange: LinearAdapter {
  /// What training changes, by what follows the layer's path in PEFT's files: `lora_A.weight`.
  var parameters: [(name: String, parameter: Parameter)] { get }

  /// What PEFT prints for the layer; by default what the parameters tell.
  var printed: PrintedLayer { get }

  /// The rank of the change, `r`; nil where the method bounds it in another way.
  var rank: Int? { get }

  /// Tensors that going on with the training needs beside the parameters, likewise; none by default.
  var trainingState: [(name: String, tensor: Tensor)] { get }

  /// Whether dropout is in effect.
  var isTraining: Bool { get set }

  /// The weight `[out, in]` in fp32 that computes what the layer with this change does.
  ///
  /// - Throws: ``AdapterError`` when there is none.
  func merged(_ weight: Tensor) throws -> Tensor

  /// The bias `[out]` in fp32 likewise; nil where the layer has none. Unchanged by default.
  ///
  /// - Throws: ``AdapterError`` when the change needs a bias that the layer does not have.
  func merged(bias: Tensor?) throws -> Tensor?
}

extension LinearChange {
  var rank: Int? { nil }
  var printed: PrintedLayer { PrintedLayer("Linear", parameters: parameters) }
  var trainingState: [(name: String, tensor: Tensor)] { [] }
  var isTraining: Bool {
    get { false }
    set {}
  }
  func merged(bias: Tensor?) throws -> Tensor? { bias }
}

/// A ``LinearChange`` at its layer.
final class LinearPart: AdapterPart {
  let path: String
  let layer: Linear
  let change: any LinearChange
  private var unmerged: (weight: any WeightStorage, bias: Tensor?)?

  init(path: String, layer: Linear, change: any LinearChange) {
    self.path = path
    self.layer = layer
    self.change = change
  }

  var parameters: [(key: String, parameter: Parameter)] {
    change.parameters.map { ("\(path).\($0.name)", $0.parameter) }
  }

  func printedLayer(at path: String) -> PrintedLayer? { path == self.path ? change.printed : nil }

  var trainingState: [AdapterTensor] {
    change.trainingState.map { name, tensor in
      AdapterTensor(
        name: "\(path).\(name)", shape: tensor.shape, value: { tensor },
        load: { try tensor.copyInPlace($0) })
    }
  }

  var isTraining: Bool {
    get { change.isTraining }
    set { change.isTraining = newValue }
  }

  func prepareTraining() throws {
    let most = min(layer.inFeatures, layer.outFeatures)
    guard let rank = change.rank, rank > most else { return }
    throw AdapterError(
      "The adapter's rank is \(rank) at \(path), which takes \(layer.inFeatures) numbers to \(layer.outFeatures): no change of its "
        + "weight has a rank above \(most). Set r (or init_r) to \(most) or less, or give such layers less with rank_pattern: "
        + "{\(path.split(separator: ".").last ?? ""): \(most)}.")
  }

  func insert() { layer.adapters.append(change) }
  func remove() { layer.adapters.removeAll { $0 === change } }

  func merge() throws {
    try withoutGradient {
      let base = try layer.weight.dense()
      let bias = layer.bias?.value
      let merged: (weight: Tensor, bias: Tensor?)
      do {
        merged = (try change.merged(base.to(.float32)), try change.merged(bias: bias?.to(.float32)))
      } catch let error as AdapterError {
        throw AdapterError("\(path): \(error.description)")
      }
      unmerged = (layer.weight, bias)
      // A new storage: the base's own may be shared with the input embedding, and is what unmerging puts back.
      layer.weight = DenseWeight(Parameter(try merged.weight.to(base.dtype)))
      if let bias, let changed = merged.bias { layer.bias?.value = try changed.to(bias.dtype) }
    }
  }

  func unmerge() {
    guard let (weight, bias) = unmerged else { return }
    layer.weight = weight
    if let bias { layer.bias?.value = bias }
    unmerged = nil
  }
}
