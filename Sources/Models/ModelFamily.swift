import NeuralNetworks

/// A kind of model: how its configuration becomes a module tree, and what its files call things.
///
/// A family is one file in `Families` and one line in ``catalogue``; the shared test suite runs over the catalogue.
public struct ModelFamily: Sendable {
  /// `model_type` in `config.json`.
  public let modelType: String
  /// The class name in `architectures`.
  public let architecture: String
  /// Builds the tree; weights are filled in afterwards.
  public let make: @Sendable (ModelConfiguration, ModelFamily) throws -> any CausalLanguageModel
  /// How GGUF files of this family are read; nil when there are none.
  public let gguf: GGUFArchitecture?

  public init(
    modelType: String, architecture: String, gguf: GGUFArchitecture? = nil,
    make: @escaping @Sendable (ModelConfiguration, ModelFamily) throws -> any CausalLanguageModel
  ) {
    self.modelType = modelType
    self.architecture = architecture
    self.make = make
    self.gguf = gguf
  }

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
