import NeuralNetworks
import Torch

extension DecoderLayer {
  /// The layer on one new token of each sequence, `[N, hidden]`, by one kernel for all of it: in generation, the calls of its parts would
  /// take as long as some of their weights take to be read.
  ///
  /// - Returns: nil when more than one token is new, when something is put around the layer's parts, and where there is no such kernel;
  ///   the parts are computed one by one then.
  package func step(_ input: Tensor, rotary: RotaryTables, layout: RaggedLayout, cache: KeyValueCache) throws
    -> Tensor?
  {
    guard input.device.kind == .cpu, layout.sequences.allSatisfy({ $0.count == 1 }), !input.requiresGradient,
      let weights = plainWeights
    else { return nil }
    let heads = weights.keyHeads
    let (keys, values) = try cache.roomForOneMore(
      layer: selfAttn.layerIndex, heads: heads, headDimension: rotary.cos.size(1), like: input)
    return try input.decoderLayerStep(
      weights, keys: keys, values: values, lengths: cache.lengths.map(Int32.init), cosines: rotary.cos,
      sines: rotary.sin)
  }

  /// The weights, when the layer is no more than they are: dense, frozen, without adapters.
  private var plainWeights: DecoderLayerWeights? {
    guard selfAttn.adapters.isEmpty, mlp.adapters.isEmpty, mlp.actFn.isSiLU,
      let queryKeyValue = selfAttn.projections.plain, let output = selfAttn.oProj.plain,
      let gateUp = mlp.projections.plain, let down = mlp.downProj.plain,
      !inputLayernorm.weight.isTrainable, !postAttentionLayernorm.weight.isTrainable
    else { return nil }
    return DecoderLayerWeights(
      inputNorm: (inputLayernorm.weight.value, inputLayernorm.epsilon),
      attentionNorm: (postAttentionLayernorm.weight.value, postAttentionLayernorm.epsilon),
      queryKeyValue: queryKeyValue, output: output, gateUp: gateUp, down: down,
      keyHeads: selfAttn.keyValueHeadCount, scale: selfAttn.scale, window: selfAttn.window ?? 0)
  }
}
