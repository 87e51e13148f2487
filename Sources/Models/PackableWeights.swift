import NeuralNetworks

extension CausalLanguageModel {
  /// The weights that are read for each token that is generated, in their order; empty where packing them would not be used: for models
  /// of another build, and where adapters lie around layers or weights are trained.
  package var packableWeights: [any PackableWeight] {
    guard let decoder = backbone as? DecoderModel else { return [] }
    let weights = decoder.layers.flatMap(\.packableWeights) + [head]
    return weights.allSatisfy { $0.plain != nil } ? weights : []
  }
}

extension DecoderLayer {
  fileprivate var packableWeights: [any PackableWeight] {
    [selfAttn.projections, selfAttn.oProj, mlp.projections, mlp.downProj]
  }
}
