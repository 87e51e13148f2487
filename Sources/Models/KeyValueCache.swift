import NeuralNetworks
import Torch

/// Keys and values of the tokens that a model has read, so that each new token costs one token's work.
///
/// Sequences have their own lengths; nothing is padded but the reserve at each end.
public final class KeyValueCache {
  /// Tokens read so far, by sequence.
  public private(set) var lengths: [Int]
  private var layers: [Layer?]

  private struct Layer {
    // One pair a sequence, [capacity, kvHeads, headDim].
    var keys: [Tensor]
    var values: [Tensor]
  }

  public init(layerCount: Int, sequenceCount: Int) {
    lengths = Array(repeating: 0, count: sequenceCount)
    layers = Array(repeating: nil, count: layerCount)
  }

  public var sequenceCount: Int { lengths.count }

  /// Adds the new tokens' keys and values of one layer and attends to all that are there.
  ///
  /// Shapes as in ``raggedAttention(_:_:_:layout:scale:window:)``.
  func attend(
    layer index: Int, _ query: Tensor, _ key: Tensor, _ value: Tensor, layout: RaggedLayout, scale: Double,
    window: Int?
  ) throws -> Tensor {
    precondition(layout.sequenceCount == sequenceCount, "a cache of \(sequenceCount) sequences")
    var layer = try layers[index] ?? emptyLayer(like: key)
    var outputs: [Tensor] = []
    for (sequence, tokens) in layout.sequences.enumerated() {
      let start = lengths[sequence]
      let end = start + tokens.count
      layer.keys[sequence] = try reserve(end, in: layer.keys[sequence], used: start)
      layer.values[sequence] = try reserve(end, in: layer.values[sequence], used: start)
      try layer.keys[sequence].slice(start..<end).copyInPlace(key.slice(tokens))
      try layer.values[sequence].slice(start..<end).copyInPlace(value.slice(tokens))
      outputs.append(
        try attention(
          query.slice(tokens), layer.keys[sequence].slice(0..<end), layer.values[sequence].slice(0..<end),
          scale: scale, window: window))
    }
    layers[index] = layer
    return outputs.count == 1 ? outputs[0] : try Tensor.concatenated(outputs)
  }

  /// Counts the tokens of `layout` as read; called once all layers have seen them.
  func advance(_ layout: RaggedLayout) {
    for (sequence, tokens) in layout.sequences.enumerated() { lengths[sequence] += tokens.count }
  }

  /// Keeps only these sequences, in this order.
  public func keep(_ sequences: [Int]) {
    lengths = sequences.map { lengths[$0] }
    layers = layers.map { layer in
      layer.map { layer in
        Layer(keys: sequences.map { layer.keys[$0] }, values: sequences.map { layer.values[$0] })
      }
    }
  }

  private func emptyLayer(like key: Tensor) throws -> Layer {
    let shape = [0, key.size(1), key.size(2)]
    func none() throws -> [Tensor] {
      try lengths.map { _ in try Tensor.empty(shape, dtype: key.dtype, device: key.device) }
    }
    return Layer(keys: try none(), values: try none())
  }

  /// `buffer` with room for `count` tokens; doubled, so that growing stays linear.
  private func reserve(_ count: Int, in buffer: Tensor, used: Int) throws -> Tensor {
    guard buffer.size(0) < count else { return buffer }
    let capacity = max(count, 2 * buffer.size(0), 64)
    let larger = try Tensor.empty(
      [capacity] + buffer.shape.dropFirst(), dtype: buffer.dtype, device: buffer.device)
    if used > 0 { try larger.slice(0..<used).copyInPlace(buffer.slice(0..<used)) }
    return larger
  }
}
