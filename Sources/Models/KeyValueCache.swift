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
    var keys: Tensor  // [N, capacity, kvHeads, headDim]
    var values: Tensor
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
    let ends = zip(lengths, layout.sequences).map { $0 + $1.count }
    let layer = try reserve(ends.max() ?? 0, in: layers[index], like: key)
    layers[index] = layer
    for (sequence, tokens) in layout.sequences.enumerated() {
      let place = lengths[sequence]..<ends[sequence]
      try layer.keys.slice(sequence..<sequence + 1).squeezed(0).slice(place).copyInPlace(key.slice(tokens))
      try layer.values.slice(sequence..<sequence + 1).squeezed(0).slice(place).copyInPlace(
        value.slice(tokens))
    }
    return try cachedAttention(
      query, keys: layer.keys, values: layer.values, lengths: ends, layout: layout, scale: scale,
      window: window)
  }

  /// Counts the tokens of `layout` as read; called once all layers have seen them.
  func advance(_ layout: RaggedLayout) {
    for (sequence, tokens) in layout.sequences.enumerated() { lengths[sequence] += tokens.count }
  }

  /// Keeps only these sequences, in this order.
  public func keep(_ sequences: [Int]) throws {
    lengths = sequences.map { lengths[$0] }
    layers = try layers.map { layer in
      try layer.map {
        let rows = try Tensor(sequences.map(Int64.init), device: $0.keys.device)
        return Layer(keys: try $0.keys.selecting(rows), values: try $0.values.selecting(rows))
      }
    }
  }

  /// `layer` with room for `count` tokens a sequence; doubled, so that growing stays linear.
  private func reserve(_ count: Int, in layer: Layer?, like key: Tensor) throws -> Layer {
    let capacity = layer?.keys.size(1) ?? 0
    if let layer, capacity >= count { return layer }
    let shape = [sequenceCount, max(count, 2 * capacity, 64), key.size(1), key.size(2)]
    func grown(_ buffer: Tensor?) throws -> Tensor {
      let larger = try Tensor.zeros(shape, dtype: key.dtype, device: key.device)
      if let buffer, capacity > 0 { try larger.slice(0..<capacity, dimension: 1).copyInPlace(buffer) }
      return larger
    }
    return Layer(keys: try grown(layer?.keys), values: try grown(layer?.values))
  }
}
