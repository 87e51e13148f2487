import NeuralNetworks
import Torch

/// Keys and values of the tokens that a model has read, so that each new token costs one token's work.
///
/// Sequences have their own lengths; nothing is padded but the reserve at each end.
public final class KeyValueCache {
  /// Tokens read so far, by sequence, virtual ones included.
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
    let layer = try reserve(
      ends.max() ?? 0, layer: index, heads: key.size(1), headDimension: key.size(2), like: key)
    try write(key, value, into: layer, layout: layout, ends: ends)
    return try cachedAttention(
      query, keys: layer.keys, values: layer.values, lengths: ends, layout: layout, scale: scale,
      window: window)
  }

  private func write(_ key: Tensor, _ value: Tensor, into layer: Layer, layout: RaggedLayout, ends: [Int])
    throws
  {
    if layout.tokenCount == sequenceCount, layout.sequences.allSatisfy({ $0.count == 1 }) {
      // The usual step when generating: one copy for all sequences rather than one for each.
      let capacity = layer.keys.size(1)
      let rows = try Tensor(
        lengths.enumerated().map { Int64($0 * capacity + $1) }, device: layer.keys.device)
      func flat(_ buffer: Tensor) throws -> Tensor {
        try buffer.reshaped(sequenceCount * capacity, buffer.size(2), buffer.size(3))  // a view
      }
      try flat(layer.keys).replaceInPlace(rows, with: key)
      try flat(layer.values).replaceInPlace(rows, with: value)
      return
    }
    for (sequence, tokens) in layout.sequences.enumerated() {
      let place = lengths[sequence]..<ends[sequence]
      for (buffer, new) in [(layer.keys, key), (layer.values, value)] {
        try buffer.slice(sequence..<sequence + 1).squeezed(0).slice(place).copyInPlace(new.slice(tokens))
      }
    }
  }

  /// Counts the tokens of `layout` as read; called once all layers have seen them.
  func advance(_ layout: RaggedLayout) {
    for (sequence, tokens) in layout.sequences.enumerated() { lengths[sequence] += tokens.count }
  }

  /// Forgets what lies behind the first tokens of each sequence: as many as `lengths` says.
  public func truncate(to lengths: [Int]) {
    precondition(
      lengths.count == sequenceCount && zip(lengths, self.lengths).allSatisfy { (0...$1).contains($0) },
      "\(lengths) tokens of \(self.lengths)")
    self.lengths = lengths
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

  /// The keys and values of a layer, `[N, capacity, heads, headDimension]`, with room for one more token of each sequence: for a kernel that
  /// adds it itself.
  func roomForOneMore(layer index: Int, heads: Int, headDimension: Int, like tensor: Tensor) throws -> (
    keys: Tensor, values: Tensor
  ) {
    let layer = try reserve(
      (lengths.max() ?? 0) + 1, layer: index, heads: heads, headDimension: headDimension, like: tensor)
    return (layer.keys, layer.values)
  }

  /// A layer's buffers with room for `count` tokens a sequence, in the type and on the device of `tensor`; doubled, so that growing stays
  /// linear.
  private func reserve(_ count: Int, layer index: Int, heads: Int, headDimension: Int, like tensor: Tensor)
    throws
    -> Layer
  {
    let layer = layers[index]
    let capacity = layer?.keys.size(1) ?? 0
    if let layer, capacity >= count { return layer }
    let shape = [sequenceCount, max(count, 2 * capacity, 64), heads, headDimension]
    func grown(_ buffer: Tensor?) throws -> Tensor {
      let larger = try Tensor.zeros(shape, dtype: tensor.dtype, device: tensor.device)
      if let buffer, capacity > 0 { try larger.slice(0..<capacity, dimension: 1).copyInPlace(buffer) }
      return larger
    }
    let larger = Layer(keys: try grown(layer?.keys), values: try grown(layer?.values))
    layers[index] = larger
    return larger
  }
}
