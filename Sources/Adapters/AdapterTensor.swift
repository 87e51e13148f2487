import NeuralNetworks
import Torch

/// A tensor of an adapter's file: its name, what is saved under it, and where it goes when it is loaded.
public struct AdapterTensor {
  /// What PEFT puts before the path of a module in the base model.
  public static let prefix = "base_model.model."

  /// The complete name: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`.
  public let name: String
  public let shape: [Int]
  /// Whether the adapter cannot be loaded from a file without it.
  public let isRequired: Bool
  /// What is saved.
  public let value: () throws -> Tensor
  /// Takes up what a file holds, in fp32 on the model's device; nil when only its shape must fit.
  public let load: ((Tensor) throws -> Void)?

  public init(
    name: String, shape: [Int], isRequired: Bool = true, value: @escaping () throws -> Tensor,
    load: ((Tensor) throws -> Void)?
  ) {
    self.name = name
    self.shape = shape
    self.isRequired = isRequired
    self.value = value
    self.load = load
  }

  /// A parameter under its path in the base model.
  public init(key: String, _ parameter: Parameter) {
    self.init(
      name: Self.prefix + key, shape: parameter.shape, value: { try parameter.value.detached() },
      load: { try parameter.value.copyInPlace($0) })
  }

  /// The same under another prefix than the usual one.
  func renamed(prefix: String) -> AdapterTensor {
    AdapterTensor(
      name: prefix + name.dropFirst(Self.prefix.count), shape: shape, isRequired: isRequired, value: value,
      load: load)
  }

  /// A tensor of the base that PEFT stores beside the adapter, such as an embedding that is targeted: for vocabularies that
  /// were resized. It is written, and its shape compared.
  public init(companion key: String, _ tensor: Tensor) {
    self.init(name: Self.prefix + key, shape: tensor.shape, isRequired: false, value: { tensor }, load: nil)
  }
}
