import NeuralNetworks
import Torch

/// One adapter made for one model: its parameters, and how it gets in and out of the model.
///
/// The base model's own parameters are never written; what an adapter changes it puts in their place. Most methods change
/// single layers: theirs is a ``ComposedAdapter``.
public protocol Adapter: AnyObject {
  /// What training changes, under the names that PEFT's files have, without the prefix `base_model.model.`.
  var parameters: [(key: String, parameter: Parameter)] { get }

  /// The modules that the method works on, in the model's order.
  var targets: [String] { get }

  /// How many of the parameters stand in for the base model's instead of adding to them.
  var replacedCount: Int { get }

  /// Elements that the adapter has and does not train, as far as PEFT counts them; none by default.
  var frozenCount: Int { get }

  /// Whether the model is being trained: dropout is in effect.
  var isTraining: Bool { get set }

  /// Puts the adapter to work behind those that already are.
  func activate() throws

  /// Takes it out again.
  func deactivate() throws

  /// Whether weights of another making stand in the base's place while the adapter is active; false by default.
  var substitutesWeights: Bool { get }

  /// Computes the change into the weights, which ``unmerge()`` puts back bit for bit. The adapter must not be active.
  ///
  /// - Throws: ``AdapterError`` for a method that no weights can express.
  func merge() throws

  /// Undoes ``merge()``, even one that threw half-way.
  func unmerge() throws

  // MARK: Printing

  /// What PEFT prints in place of the layer at `path`; nil, which is the default, where the adapter does nothing.
  func printedLayer(at path: String) -> PrintedLayer?

  /// What PEFT prints behind the base, of what its layers share; nothing by default.
  var printedShared: [PrintedLayer.Slot] { get }

  /// What PEFT prints beside the base (`prompt_encoder`), for methods that leave its layers alone; nil by default.
  var printedEncoder: PrintedModule? { get }

  // MARK: Files

  /// The tensors of `adapter_model.safetensors`; by default the parameters.
  var storedTensors: [AdapterTensor] { get }

  /// What PEFT puts before the path of a module of the base: ``AdapterTensor/prefix``, but for methods whose model stands
  /// beside the base instead of around it.
  var basePrefix: String { get }

  /// What going on with the training needs and PEFT's file does not hold, such as the encoder behind a prompt; the
  /// Trainer's checkpoints keep it. None by default.
  var trainingState: [AdapterTensor] { get }

  /// The settings, where training changes them; nil by default.
  var configuration: (any AdapterConfiguration)? { get }

  /// Called before tensors are taken from a directory whose settings are `configuration`; does nothing by default.
  func prepareLoading(_ configuration: any AdapterConfiguration) throws

  /// Whether what comes out of a training is a model instead of an adapter beside one: it is then saved as a Hugging Face
  /// model directory. False by default.
  var isWholeModel: Bool { get }

  // MARK: Training

  /// Called before the first step of a run of `totalSteps` optimizer steps, also of one that is taken up again.
  ///
  /// - Throws: ``AdapterError`` when the settings cannot be trained in so many steps.
  func prepareTraining(totalSteps: Int) throws

  /// A term that the method itself adds to the mean loss of a step: a scalar in fp32; nil is none.
  func penalty() throws -> Tensor?

  /// Called after optimizer step `step` (the first is 1), while the parameters still have the gradients it was made with.
  func didStep(_ step: Int) throws
}

extension Adapter {
  public func printedLayer(at path: String) -> PrintedLayer? { nil }
  public var substitutesWeights: Bool { false }
  public var printedShared: [PrintedLayer.Slot] { [] }
  public var printedEncoder: PrintedModule? { nil }
  public var storedTensors: [AdapterTensor] { parameters.map { AdapterTensor(key: $0.key, $0.parameter) } }
  public var basePrefix: String { AdapterTensor.prefix }
  public var trainingState: [AdapterTensor] { [] }
  public var frozenCount: Int { 0 }
  public var configuration: (any AdapterConfiguration)? { nil }
  public func prepareLoading(_ configuration: any AdapterConfiguration) throws {}
  public var isWholeModel: Bool { false }
  public func prepareTraining(totalSteps: Int) throws {}
  public func penalty() throws -> Tensor? { nil }
  public func didStep(_ step: Int) throws {}
}
