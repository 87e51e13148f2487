import NeuralNetworks

/// A kind of model: how its configuration becomes a module tree, and what its files call things.
///
/// A family is one file in `Families` and one line in ``catalogue``; the shared test suite runs over the catalogue.
public struct ModelFamily: Sendable {
  /// `model_type` in `config.json`.
  public let modelType: String
  /// What Hugging Face's class names begin with: `Llama`.
  public let className: String
  /// Builds the tree of a task's model; weights are filled in afterwards.
  public let make: @Sendable (ModelConfiguration, ModelFamily, ModelTask) throws -> any PretrainedModel
  /// How GGUF files of this family are read; nil when there are none.
  public let gguf: GGUFArchitecture?

  public init(
    modelType: String, className: String, gguf: GGUFArchitecture? = nil,
    make: @escaping @Sendable (ModelConfiguration, ModelFamily, ModelTask) throws -> any PretrainedModel
  ) {
    self.modelType = modelType
    self.className = className
    self.make = make
    self.gguf = gguf
  }

  /// The class name of a task's model, as `architectures` has it: `LlamaForCausalLM`.
  public func architecture(_ task: ModelTask) -> String { className + task.classSuffix }

  /// Every family that Graft can load.
  public static let catalogue: [ModelFamily] = [.llama, .qwen2]

  /// The family of a configuration.
  ///
  /// - Throws: ``ModelError`` naming what is known when there is none.
  public static func of(_ configuration: ModelConfiguration) throws -> ModelFamily {
    let modelType = try configuration.modelType
    guard let family = catalogue.first(where: { $0.modelType == modelType }) else {
      let known = catalogue.map(\.modelType).joined(separator: ", ")
      throw ModelError(
        "\(configuration.source) describes a model of type `\(modelType)`, which Graft does not have; it has \(known)."
      )
    }
    return family
  }
}
