import NeuralNetworks
import Torch

/// One change at one place of a model: a layer with something trainable around it, or a parameter with another in its place.
protocol AdapterPart: AnyObject {
  /// What training changes, by its path in PEFT's files.
  var parameters: [(key: String, parameter: Parameter)] { get }

  /// The tensors of the file; by default the parameters.
  var storedTensors: [AdapterTensor] { get }

  /// What going on with the training needs beside them; none by default.
  var trainingState: [AdapterTensor] { get }

  /// How many elements of the parameters stand in for the base model's.
  var replacedCount: Int { get }

  /// Whether dropout is in effect.
  var isTraining: Bool { get set }

  /// Checks, before the first step, that training makes sense.
  ///
  /// - Throws: ``AdapterError`` when it does not. Files with such settings are loaded all the same.
  func prepareTraining() throws

  /// Puts the change to work; does nothing when it already is.
  func insert() throws
  func remove()

  /// Computes the change into the weights; only called while it is not inserted.
  ///
  /// - Throws: ``AdapterError`` when no weights can express it here.
  func merge() throws

  /// Puts the weights back as they were; does nothing when they are.
  func unmerge()

  /// What PEFT prints in place of the layer at `path`; nil where this part does nothing.
  func printedLayer(at path: String) -> PrintedLayer?
}

extension AdapterPart {
  var storedTensors: [AdapterTensor] { parameters.map { AdapterTensor(key: $0.key, $0.parameter) } }
  var trainingState: [AdapterTensor] { [] }
  var replacedCount: Int { 0 }
  func printedLayer(at path: String) -> PrintedLayer? { nil }
  func prepareTraining() throws {}
  var isTraining: Bool {
    get { false }
    set {}
  }
}

/// An adapter made of parts, which are put to work, merged and taken out together: what most methods are.
///
/// Methods that do more, such as moving ranks between layers during training, subclass it.
class ComposedAdapter: Adapter {
  let targets: [String]
  let parts: [any AdapterPart]
  private let companions: [(key: String, tensor: Tensor)]

  /// - Parameters:
  ///   - targets: the modules that the method works on, in the model's order.
  ///   - companions: tensors of the base that PEFT stores beside the adapter.
  init(targets: [String], parts: [any AdapterPart], companions: [(key: String, tensor: Tensor)] = []) {
    self.targets = targets
    self.parts = parts
    self.companions = companions
  }

  var parameters: [(key: String, parameter: Parameter)] { parts.flatMap(\.parameters) }
  var replacedCount: Int { parts.reduce(0) { $0 + $1.replacedCount } }

  var storedTensors: [AdapterTensor] {
    parts.flatMap(\.storedTensors)
      + companions.map { AdapterTensor(companion: $0.key, $0.tensor) }
  }

  var trainingState: [AdapterTensor] { parts.flatMap(\.trainingState) }
  var frozenCount: Int { 0 }
  var configuration: (any AdapterConfiguration)? { nil }
  func prepareLoading(_ configuration: any AdapterConfiguration) throws {}
  var isWholeModel: Bool { false }

  var isTraining = false {
    didSet { for part in parts { part.isTraining = isTraining } }
  }

  func activate() throws { for part in parts { try part.insert() } }
  func deactivate() throws { for part in parts.reversed() { part.remove() } }
  func merge() throws { for part in parts { try part.merge() } }
  func unmerge() throws { for part in parts.reversed() { part.unmerge() } }

  func printedLayer(at path: String) -> PrintedLayer? {
    for part in parts {
      if let layer = part.printedLayer(at: path) { return layer }
    }
    return nil
  }

  var substitutesWeights: Bool { parts.contains { $0 is WeightSubstitution } }
  var printedShared: [PrintedLayer.Slot] { [] }

  func prepareTraining(totalSteps: Int) throws { for part in parts { try part.prepareTraining() } }
  func penalty() throws -> Tensor? { nil }
  func didStep(_ step: Int) throws {}
}
