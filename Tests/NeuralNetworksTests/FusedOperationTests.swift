import Foundation
import NeuralNetworks
import TestSupport
import Testing
import Torch

// The fused kernels beside the same formulas in plain operations of the engine: values and gradients.

/// Runs `fused` on leaves of `dtype` and `plain` on fp32 leaves of the same values; compares output and gradients.
func expectSame(
  _ inputs: [Tensor], _ dtype: DType, tolerance: Double? = nil, location: SourceLocation = #_sourceLocation,
  fused: ([Tensor]) throws -> Tensor, plain: ([Tensor]) throws -> Tensor
) throws {
  // bf16 has 8 bits; the reference computes on the same rounded values.
  let tolerance = tolerance ?? (dtype == .bfloat16 ? 2e-2 : 1e-5)
  func leaves(_ type: DType) throws -> [Tensor] {
    try inputs.map {
      let leaf = try $0.to(dtype).to(type).copy()
      try leaf.setRequiresGradient(true)
      return leaf
    }
  }
  let (ours, theirs) = (try leaves(dtype), try leaves(.float32))
  // Not the leaves themselves, which an operation in place may not overwrite.
  let found = try fused(ours.map { try $0 * 1 })
  let wanted = try plain(theirs)
  #expect(found.dtype == dtype || found.rank == 0, sourceLocation: location)
  #expect(try relativeError(found, wanted, floor: 1) < tolerance, "values", sourceLocation: location)
  let direction = try Tensor.normal(wanted.shape).to(dtype)
  try found.backward(direction.to(found.dtype))
  try wanted.backward(direction.to(.float32))
  for (index, (one, other)) in zip(ours, theirs).enumerated() {
    let gradient = try #require(one.gradient, "gradient of input \(index)", sourceLocation: location)
    #expect(
      try relativeError(gradient, #require(other.gradient), floor: 1) < tolerance,
      "gradient of input \(index)",
      sourceLocation: location)
  }
}

@Suite struct FusedOperationTests {
  static let types: [DType] = [.float32, .bfloat16]
  /// Widths with and without a remainder of vectors.
  static let widths = [3, 16, 40, 576]

  @Test("RMSNorm is its formula", arguments: types, widths)
  func rmsNorm(_ dtype: DType, _ width: Int) throws {
    try RandomState.seed(1)
    let inputs = [try Tensor.normal([150, width]), try Tensor.normal([width])]
    try expectSame(inputs, dtype) {
      try $0[0].rmsNorm(weight: $0[1], epsilon: 1e-3)
    } plain: { values in
      let mean = try values[0].squared().mean(1, keepingDimension: true)
      return try values[0] * (mean + 1e-3).reciprocalSquareRoot() * values[1]
    }
  }

  @Test("SwiGLU is silu(gate) · up", arguments: types, widths)
  func swiGLU(_ dtype: DType, _ width: Int) throws {
    try RandomState.seed(2)
    let inputs = [try Tensor.normal([33, width]) * 3, try Tensor.normal([33, width])]
    try expectSame(inputs, dtype) {
      try Tensor.swiGLU($0[0], $0[1])
    } plain: {
      try $0[0] * $0[0].sigmoid() * $0[1]
    }
  }

  @Test("rotation is x cos + rotateHalf(x) sin", arguments: types, [4, 12, 64])
  func rotary(_ dtype: DType, _ dimension: Int) throws {
    try RandomState.seed(3)
    let heads = 3
    let layout = try RaggedLayout(lengths: [5, 1, 9])
    let tables = try RotaryEmbedding(dimension: dimension, base: 10_000, context: 64)(
      layout, lengths: [5, 1, 9])
    try expectSame([.normal([15, heads * dimension])], dtype) {
      try tables.rotate($0[0], heads: heads).reshaped(15, heads * dimension)
    } plain: { values in
      let x = try values[0].reshaped(15, heads, dimension)
      let halves = try x.split([dimension / 2, dimension / 2], dimension: 2)
      let turned = try Tensor.concatenated([-halves[1], halves[0]], dimension: 2)
      let (cos, sin) = (try tables.cos.unsqueezed(1), try tables.sin.unsqueezed(1))
      return try (x * cos + turned * sin).reshaped(15, heads * dimension)
    }
  }

  @Test("positions turn pairs of features by position · base^(−2i / d)")
  func rotaryAngles() throws {
    let tables = try RotaryEmbedding(dimension: 4, base: 100, context: 8)(
      RaggedLayout(lengths: [3, 2], starts: [0, 5]), lengths: [3, 7])
    let angles = [0.0, 1, 2, 5, 6].map { [$0, $0 / 10, $0, $0 / 10] }
    for (found, wanted) in zip(try tables.cos.doubles(), angles.flatMap { $0.map { cos($0) } }) {
      #expect(abs(found - wanted) < 1e-6)
    }
    for (found, wanted) in zip(try tables.sin.doubles(), angles.flatMap { $0.map { sin($0) } }) {
      #expect(abs(found - wanted) < 1e-6)
    }
  }

  @Test("LoRA around a frozen layer is x Wᵀ + b + s (mask · x Aᵀ) Bᵀ", arguments: types, [false, true])
  func lora(_ dtype: DType, masked: Bool) throws {
    try RandomState.seed(4)
    let weight = try Tensor.normal([24, 40]).to(dtype)
    let bias = try Tensor.normal([24]).to(dtype)
    let mask = try masked ? Tensor.ones([9, 40], dtype: dtype).dropout(0.4) : nil
    try expectSame(
      [.normal([9, 40]), .normal([4, 40]), .normal([24, 4])], dtype,
      tolerance: dtype == .bfloat16 ? 4e-2 : 1e-5
    ) {
      try $0[0].loraLinear(
        weights: [weight], bias: bias, pairs: [(a: $0[1], b: $0[2], scale: 0.5, firstOutput: 0)], mask: mask)
    } plain: { values in
      let dropped = try mask.map { try values[0] * $0.to(.float32) } ?? values[0]
      let low = try dropped.linear(values[1]).linear(values[2]) * 0.5
      return try values[0].linear(weight.to(.float32), bias: bias.to(.float32)) + low
    }
  }

  // MARK: Attention

  struct Shape: Sendable, CustomTestStringConvertible {
    var lengths: [Int]
    var heads: Int
    var keyHeads: Int
    var headSize: Int
    var window: Int?
    var testDescription: String {
      "\(lengths) tokens, \(heads)/\(keyHeads) heads of \(headSize), window \(window.map(String.init) ?? "none")"
    }
  }

  static let shapes = [
    Shape(lengths: [1], heads: 1, keyHeads: 1, headSize: 16),
    Shape(lengths: [7, 1, 130, 64], heads: 4, keyHeads: 4, headSize: 64),
    Shape(lengths: [33, 5, 80], heads: 9, keyHeads: 3, headSize: 64),
    Shape(lengths: [20, 50], heads: 14, keyHeads: 2, headSize: 64),
    Shape(lengths: [300, 17], heads: 4, keyHeads: 1, headSize: 128),
    Shape(lengths: [12, 30], heads: 4, keyHeads: 2, headSize: 12),
    Shape(lengths: [12, 0, 30], heads: 2, keyHeads: 2, headSize: 80),
    Shape(lengths: [140, 9, 3], heads: 4, keyHeads: 2, headSize: 64, window: 16),
    Shape(lengths: [140, 9, 3], heads: 4, keyHeads: 2, headSize: 8, window: 1),
    Shape(lengths: [70], heads: 2, keyHeads: 1, headSize: 64, window: 500),
  ]

  /// softmax(scale · q kᵀ) v, sequence by sequence, in fp32 and with a mask that is written out.
  private func reference(_ q: Tensor, _ k: Tensor, _ v: Tensor, _ shape: Shape, _ layout: RaggedLayout) throws
    -> Tensor
  {
    let pieces = try layout.sequences.filter { !$0.isEmpty }.map { tokens -> Tensor in
      let count = tokens.count
      let hidden = (0..<count).flatMap { query in
        (0..<count).map { $0 > query || query - $0 >= shape.window ?? .max }
      }
      // [heads, n, d]; each key head serves its share of the query's.
      func heads(_ tensor: Tensor) throws -> Tensor {
        let rows = try tensor.slice(tokens).to(.float32).transposed(0, 1)
        return try rows.repeatInterleaved(shape.heads / tensor.size(1), dimension: 0)
      }
      let scores = try heads(q).matmul(heads(k).transposed()) * 0.2
      let mask = try Tensor(hidden, shape: [1, count, count])
      let weights = try scores.filled(where: mask, with: -.infinity).softmax()
      return try weights.matmul(heads(v)).transposed(0, 1).to(q.dtype)
    }
    return try Tensor.concatenated(pieces)
  }

  @Test(
    "a frozen linear layer is x Wᵀ + b, in sizes with and without rests of panels and vectors",
    arguments: types,
    [[340, 192, 256], [101, 190, 250], [49, 34, 33], [12, 64, 64]])
  func frozenLinear(_ dtype: DType, _ sizes: [Int]) throws {
    try RandomState.seed(5)
    let weight = try Tensor.normal([sizes[2], sizes[1]]).to(dtype)
    let bias = try Tensor.normal([sizes[2]]).to(dtype)
    try expectSame([.normal([sizes[0], sizes[1]])], dtype) {
      try $0[0].linear(weight, bias: bias)
    } plain: {
      try $0[0].linear(weight.to(.float32), bias: bias.to(.float32))
    }
  }

  @Test("ragged attention is each sequence's own", arguments: types, shapes)
  func raggedAttentionIsPerSequence(_ dtype: DType, _ shape: Shape) throws {
    try RandomState.seed(5)
    let layout = try RaggedLayout(lengths: shape.lengths)
    let total = layout.tokenCount
    let inputs = try [shape.heads, shape.keyHeads, shape.keyHeads].map {
      try Tensor.normal([total, $0, shape.headSize])
    }
    try expectSame(inputs, dtype, tolerance: dtype == .bfloat16 ? 3e-2 : 2e-5) {
      try raggedAttention($0[0], $0[1], $0[2], layout: layout, scale: 0.2, window: shape.window)
    } plain: {
      try reference($0[0], $0[1], $0[2], shape, layout)
    }
  }

  @Test("attention to a cache is attention to all that was read", arguments: types, shapes)
  func cached(_ dtype: DType, _ shape: Shape) throws {
    try RandomState.seed(6)
    // Each sequence's last tokens are new; what is before lies in the cache.
    let lengths = shape.lengths.filter { $0 > 0 }
    let full = try RaggedLayout(lengths: lengths)
    let news = lengths.map { Swift.min($0, 3) }
    let layout = try RaggedLayout(lengths: news, starts: zip(lengths, news).map { $0 - $1 })
    let (q, k, v) = (
      try Tensor.normal([full.tokenCount, shape.heads, shape.headSize]).to(dtype),
      try Tensor.normal([full.tokenCount, shape.keyHeads, shape.headSize]).to(dtype),
      try Tensor.normal([full.tokenCount, shape.keyHeads, shape.headSize]).to(dtype)
    )
    let capacity = lengths.max()! + 5
    func cache(_ tensor: Tensor) throws -> Tensor {
      // What lies behind the counted rows must not be read.
      let cache = try Tensor.full(
        [lengths.count, capacity, shape.keyHeads, shape.headSize], .nan, dtype: dtype)
      for (index, tokens) in full.sequences.enumerated() {
        try cache.slice(index..<index + 1).squeezed(0).slice(0..<tokens.count).copyInPlace(
          tensor.slice(tokens))
      }
      return cache
    }
    let fresh = try zip(full.sequences, news).map { try q.slice($0.upperBound - $1..<$0.upperBound) }
    let found = try cachedAttention(
      Tensor.concatenated(fresh), keys: cache(k), values: cache(v), lengths: lengths, layout: layout,
      scale: 0.2,
      window: shape.window)
    let shape = Shape(
      lengths: lengths, heads: shape.heads, keyHeads: shape.keyHeads, headSize: shape.headSize,
      window: shape.window)
    let all = try reference(q.to(.float32), k.to(.float32), v.to(.float32), shape, full)
    let wanted = try Tensor.concatenated(
      zip(full.sequences, news).map { try all.slice($0.upperBound - $1..<$0.upperBound) })
    #expect(try relativeError(found, wanted, floor: 1) < (dtype == .bfloat16 ? 3e-2 : 2e-5))
  }

  // MARK: Loss

  @Test("the fused projection and cross-entropy is the plain one", arguments: types, [7, 300, 5000])
  func linearCrossEntropy(_ dtype: DType, _ vocabulary: Int) throws {
    try RandomState.seed(7)
    let count = 70
    let labels = try Tensor((0..<count).map { Int64(($0 * 37) % vocabulary) })
    let inputs = [try Tensor.normal([count, 48]), try Tensor.normal([vocabulary, 48]) * 0.2]
    try expectSame(inputs, dtype, tolerance: dtype == .bfloat16 ? 3e-2 : 2e-5) {
      try $0[0].linearCrossEntropy(weight: $0[1], labels: labels)
    } plain: {
      try $0[0].linear($0[1]).crossEntropySum(labels)
    }
    let (losses, predictions) = try inputs[0].linearCrossEntropyPerToken(weight: inputs[1], labels: labels)
    let logits = try inputs[0].linear(inputs[1])
    #expect(try predictions.integers() == logits.argmax(1).integers())
    #expect(try relativeError(losses.sum(), logits.crossEntropySum(labels), floor: 1) < 1e-5)
  }
}
