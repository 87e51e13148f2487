import CTorch

/// The weights of a decoder's layer as Llama shaped it, frozen, dense and without adapters: what one kernel computes when a single token of
/// each sequence is new. Its formula stands in Sources/CTorch/Kernels/DecoderStep.cpp.
package struct DecoderLayerWeights {
  package typealias Projection = PlainProjection
  /// `[hidden]`, and the ε beside the mean square.
  package typealias Norm = (weight: Tensor, epsilon: Double)

  package let inputNorm: Norm
  package let attentionNorm: Norm
  /// Queries, keys and values of all heads behind one another.
  package let queryKeyValue: Projection
  package let output: Projection
  /// Gate before up.
  package let gateUp: Projection
  package let down: Projection
  package let keyHeads: Int
  /// The factor of the scores.
  package let scale: Double
  /// Tokens that a token may see, itself counted; 0 is all.
  package let window: Int

  package init(
    inputNorm: Norm, attentionNorm: Norm, queryKeyValue: Projection, output: Projection, gateUp: Projection,
    down: Projection, keyHeads: Int, scale: Double, window: Int
  ) {
    self.inputNorm = inputNorm
    self.attentionNorm = attentionNorm
    self.queryKeyValue = queryKeyValue
    self.output = output
    self.gateUp = gateUp
    self.down = down
    self.keyHeads = keyHeads
    self.scale = scale
    self.window = window
  }
}

extension Tensor {
  /// One new token of each sequence, `[N, hidden]`, through a whole layer; nil where there is no kernel for its sizes and types. No gradient.
  ///
  /// - Parameters:
  ///   - keys: `[N, capacity, keyHeads, d]`, of which the first `lengths[n]` count; the new token's are added.
  ///   - values: the same.
  ///   - cosines: fp32 `[N, d]` for the tokens' positions.
  ///   - sines: the same.
  package func decoderLayerStep(
    _ layer: DecoderLayerWeights, keys: Tensor, values: Tensor, lengths: [Int32], cosines: Tensor,
    sines: Tensor
  ) throws -> Tensor? {
    var result: OpaquePointer?
    var weights = CTDecoderLayer(
      input_norm: layer.inputNorm.weight.handle, attention_norm: layer.attentionNorm.weight.handle,
      query_key_value: layer.queryKeyValue.weight.handle,
      query_key_value_bias: layer.queryKeyValue.bias?.handle, output: layer.output.weight.handle,
      output_bias: layer.output.bias?.handle, gate_up: layer.gateUp.weight.handle,
      gate_up_bias: layer.gateUp.bias?.handle, down: layer.down.weight.handle,
      down_bias: layer.down.bias?.handle, input_epsilon: layer.inputNorm.epsilon,
      attention_epsilon: layer.attentionNorm.epsilon, scale: layer.scale, key_heads: Int64(layer.keyHeads),
      window: Int64(layer.window), packed_query_key_value: layer.queryKeyValue.engineValue,
      packed_output: layer.output.engineValue, packed_gate_up: layer.gateUp.engineValue,
      packed_down: layer.down.engineValue)
    try withExtendedLifetime(layer) {
      try checkedStatus("decoder layer", keys, values, cosines) {
        ct_decoder_layer_step(
          handle, &weights, keys.handle, values.handle, lengths, Int32(lengths.count), cosines.handle,
          sines.handle, &result)
      }
    }
    return result.map(Tensor.init(owning:))
  }
}
