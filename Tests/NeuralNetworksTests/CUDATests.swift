import Foundation
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Every operation that takes another way on a GPU, beside the CPU's in fp32 on the same rounded numbers.

@Suite(
  "The same operations on a GPU", .serialized,
  .enabled(if: (try? Engine.prepare(.cuda)) != nil, "the engine finds no CUDA device on this machine"))
struct CUDATests {
  static let types: [DType] = [.float32, .bfloat16, .float16]

  /// 8 and 11 bits; fp32 products on a GPU may be rounded to TF32, unless the engine is told otherwise, which it is not by default.
  private func tolerance(_ dtype: DType) -> Double {
    switch dtype {
    case .bfloat16: 2e-2
    case .float16: 4e-3
    default: 1e-4
    }
  }

  /// Runs `body` on the GPU in `dtype` and on the CPU in fp32; compares what it gives and the gradients of the inputs.
  private func expectSame(
    _ inputs: [Tensor], _ dtype: DType, location: SourceLocation = #_sourceLocation,
    _ body: ([Tensor], Device) throws -> Tensor
  ) throws {
    let tolerance = tolerance(dtype)
    func leaves(_ type: DType, _ device: Device) throws -> [Tensor] {
      try inputs.map {
        let leaf = try $0.to(dtype).to(type, device: device).copy()
        try leaf.setRequiresGradient(true)
        return leaf
      }
    }
    let (there, here) = (try leaves(dtype, .cuda), try leaves(.float32, .cpu))
    let (found, wanted) = (try body(there, .cuda), try body(here, .cpu))
    #expect(found.device.kind == .cuda, sourceLocation: location)
    #expect(
      try relativeError(found.to(device: .cpu), wanted, floor: 1) < tolerance, "values",
      sourceLocation: location)
    let direction = try Tensor.normal(wanted.shape).to(dtype)
    try found.backward(direction.to(found.dtype, device: .cuda))
    try wanted.backward(direction.to(.float32))
    for (index, (one, other)) in zip(there, here).enumerated() {
      let gradient = try #require(one.gradient, "gradient of input \(index)", sourceLocation: location)
      #expect(
        try relativeError(gradient.to(device: .cpu), #require(other.gradient), floor: 1) < tolerance,
        "gradient of input \(index)", sourceLocation: location)
    }
  }

  private let offsets = [Int32(0), 5, 5, 6, 70, 133]

  @Test("attention, also of shared heads and in a window", arguments: types, [0, 9])
  func attention(_ dtype: DType, _ window: Int) throws {
    try RandomState.seed(1)
    let offsets = try Tensor(offsets)
    let inputs = [
      try Tensor.normal([133, 6, 64]), try Tensor.normal([133, 2, 64]), try Tensor.normal([133, 2, 64]),
    ]
    for causal in [true, false] {
      try expectSame(inputs, dtype) { values, _ in
        try Tensor.raggedAttention(
          values[0], values[1], values[2], offsets: offsets, scale: 0.125, causal: causal, window: window)
      }
    }
    try expectSame([try Tensor.normal([133, 10, 64])], dtype) { values, _ in
      try Tensor.raggedAttention(
        fused: values[0], keyHeads: 2, offsets: offsets, scale: 0.125, causal: true, window: window)
    }
  }

  @Test("attention to a cache, also in a window", arguments: types, [0, 9])
  func cachedAttention(_ dtype: DType, _ window: Int) throws {
    try RandomState.seed(2)
    let (query, keys, values) = (
      try Tensor.normal([4, 6, 64]).to(dtype), try Tensor.normal([3, 40, 2, 64]).to(dtype),
      try Tensor.normal([3, 40, 2, 64]).to(dtype)
    )
    let (offsets, lengths) = (try Tensor([Int32(0), 1, 3, 4]), try Tensor([Int32(40), 17, 1]))
    func attended(_ type: DType, _ device: Device) throws -> Tensor {
      try Tensor.cachedAttention(
        query.to(type, device: device), keys: keys.to(type, device: device),
        values: values.to(type, device: device),
        offsets: offsets, lengths: lengths, scale: 0.125, causal: true, window: window
      ).to(device: .cpu)
    }
    #expect(try relativeError(attended(dtype, .cuda), attended(.float32, .cpu), floor: 1) < tolerance(dtype))
  }

  @Test("projection and cross-entropy", arguments: types)
  func crossEntropy(_ dtype: DType) throws {
    try RandomState.seed(3)
    let labels = try Tensor((0..<300).map { Int64($0 * 7919 % 40_000) })
    // More logits than one piece has.
    let inputs = [try Tensor.normal([300, 64]), try Tensor.normal([40_000, 64]) * 0.3]
    try expectSame(inputs, dtype) { values, device in
      try values[0].linearCrossEntropy(weight: values[1], labels: labels.to(device: device)) / 300
    }
    let (losses, predictions) = try inputs[0].to(dtype, device: .cuda).linearCrossEntropyPerToken(
      weight: inputs[1].to(dtype, device: .cuda), labels: labels.to(device: .cuda))
    let rounded = try inputs.map { try $0.to(dtype).to(.float32) }
    let wanted = try rounded[0].linearCrossEntropyPerToken(weight: rounded[1], labels: labels)
    #expect(try relativeError(losses.to(device: .cpu), wanted.losses) < tolerance(dtype))
    #expect(predictions.shape == wanted.predictions.shape)
  }

  @Test("element-wise operations", arguments: types)
  func elementwise(_ dtype: DType) throws {
    try RandomState.seed(4)
    try expectSame([try Tensor.normal([70, 96]), try Tensor.normal([96])], dtype) { values, _ in
      try values[0].rmsNorm(weight: values[1], epsilon: 1e-5)
    }
    try expectSame([try Tensor.normal([70, 192])], dtype) { values, _ in try Tensor.swiGLU(fused: values[0]) }
    let angles = try Tensor.uniform([70, 32], high: 6)
    let (cosines, sines) = (try angles.cos(), try angles.sin())
    try expectSame([try Tensor.normal([70, 5 * 32])], dtype) { values, device in
      try (values[0] * 1).rotated(
        cosines: cosines.to(device: device), sines: sines.to(device: device), headSize: 32, heads: 3)
    }
  }

  @Test("what is shared at the beginning", arguments: types)
  func prefixes(_ dtype: DType) throws {
    try RandomState.seed(5)
    let offsets = try Tensor([Int32(0), 12, 20, 31])
    try expectSame([try Tensor.normal([31 - 2 * 7, 16])], dtype) { values, _ in
      try values[0].repeatingPrefix(7, offsets: offsets)
    }
    try expectSame([try Tensor.normal([31, 16])], dtype) { values, _ in
      try values[0].droppingRepeatedPrefix(7, offsets: offsets)
    }
  }

  @Test("low-rank adapters around dense and quantized weights", arguments: types)
  func adapters(_ dtype: DType) throws {
    try RandomState.seed(6)
    let inputs = [
      try Tensor.normal([50, 64]), try Tensor.normal([4, 64]) * 0.1, try Tensor.normal([96, 4]) * 0.1,
    ]
    let weight = try Tensor.normal([96, 64]) * 0.1
    try expectSame(inputs, dtype) { values, device in
      try values[0].loraLinear(
        weights: [weight.to(dtype).to(values[0].dtype, device: device)], bias: nil,
        pairs: [(a: values[1], b: values[2], scale: 2, firstOutput: 0)])
    }
    for matrix in [
      try QuantizedMatrix(fourBit: .nf4, weight, doubleQuantization: true), try QuantizedMatrix(int8: weight),
    ] {
      let moved = try matrix.moved(to: .cuda)
      try expectSame(inputs, dtype) { values, device in
        try values[0].quantizedLinear(
          [device == .cpu ? matrix : moved], bias: nil,
          pairs: [(a: values[1], b: values[2], scale: 2, firstOutput: 0)])
      }
    }
  }

  @Test("steps of AdamW")
  func adamW() throws {
    try RandomState.seed(7)
    let start = [try Tensor.normal([300]), try Tensor.normal([7, 40])]
    let gradients = try start.map { try Tensor.normal($0.shape) }
    func parameters(_ device: Device) throws -> [Tensor] {
      let parameters = try start.map { try $0.copy().to(device: device) }
      let (means, squares) = (
        try start.map { try Tensor.zeros($0.shape, device: device) },
        try start.map { try Tensor.zeros($0.shape, device: device) }
      )
      for step in 1...5 {
        try Tensor.adamWStep(
          parameters, gradients: gradients.map { try $0.to(device: device) * Double(step) }, means: means,
          squares: squares, learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1,
          step: step)
      }
      return try parameters.map { try $0.to(device: .cpu) }
    }
    for (there, here) in zip(try parameters(.cuda), try parameters(.cpu)) {
      #expect(try relativeError(there, here) < 1e-6)
    }
  }

  @Test("copies beside the computation bring what was stored, and take what was computed")
  func copyQueue() throws {
    let queue = try CopyQueue(.cuda)
    let hosts = try (0..<6).map { try Tensor([Float($0), 10, -1]).to(device: .cuda).copiedToHost() }
    for _ in 0..<3 {
      var next = try queue.fetch(hosts[0])
      for index in hosts.indices {
        try queue.join()
        let current = next
        if index + 1 < hosts.count { next = try queue.fetch(hosts[index + 1]) }
        try current.copyInPlace(current * 2 + 1)
        try queue.store(current, into: hosts[index])
      }
      try queue.join()
    }
    try queue.synchronize()
    for (index, host) in hosts.enumerated() {
      #expect(try host.doubles() == [Double(index), 10, -1].map { $0 * 8 + 7 })
    }
  }
}
