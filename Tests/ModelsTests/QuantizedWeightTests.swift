import Formats
import Foundation
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Quantized weights beside what bitsandbytes makes of the same numbers (`make_quantized_fixtures.py`) and beside the plain decoders of
// Formats, in every form that the kernels are compiled in.

/// Runs `body` with each form of the kernels that this processor has.
private func forEachVariant(_ body: (Int) throws -> Void) rethrows {
  let best = Engine.kernelVariant
  defer { Engine.kernelVariant = best }
  for variant in 0...best {
    Engine.kernelVariant = variant
    try body(variant)
  }
}

@Suite(.serialized) struct QuantizedWeightTests {
  static let weights: [String] = [
    "whole", "straddling", "odd", "nested", "bfloat16", "middles_nf4", "middles_fp4",
  ]
  static let fourBitEncodings: [QuantizedMatrix.Encoding] = [.nf4, .fp4]

  private func file() throws -> SafetensorsFile {
    try SafetensorsFile(fixture("quantized/weights.safetensors"))
  }

  @Test("codes and constants of four bits are bitsandbytes'", arguments: weights, fourBitEncodings)
  func fourBitCodes(_ name: String, _ encoding: QuantizedMatrix.Encoding) throws {
    let file = try file()
    let key = "\(name).\(encoding.rawValue)"
    let weight = try file.tensor("\(name).weight")
    try forEachVariant { variant in
      let matrix = try QuantizedMatrix(fourBit: encoding, weight)
      #expect(try matrix.codes.bytes() == file.tensor("\(key).codes").bytes(), "codes, form \(variant)")
      #expect(
        try matrix.constants?.floats() == file.tensor("\(key).absmax").floats(), "constants, form \(variant)")
      #expect(
        try matrix.dequantized(.float32).bytes() == file.tensor("\(key).dequantized").bytes(),
        "numbers, form \(variant)")
      #expect(
        try matrix.dequantized(.bfloat16).bytes() == file.tensor("\(key).dequantized_bfloat16").bytes(),
        "numbers in bfloat16, form \(variant)")
    }
  }

  @Test(
    "double quantization is bitsandbytes', and its CPU library's to one code", arguments: weights,
    fourBitEncodings)
  func doubleQuantization(_ name: String, _ encoding: QuantizedMatrix.Encoding) throws {
    let file = try file()
    let key = "\(name).\(encoding.rawValue)"
    try forEachVariant { _ in
      let matrix = try QuantizedMatrix(
        fourBit: encoding, file.tensor("\(name).weight"), doubleQuantization: true)
      let nested = try #require(matrix.nested)
      let codes = try #require(matrix.constants).array(of: UInt8.self)
      #expect(try matrix.codes.bytes() == file.tensor("\(key).codes").bytes())
      #expect(try codes == file.tensor("\(key).nested_codes").array(of: UInt8.self))
      #expect(try nested.scales.floats() == file.tensor("\(key).nested_absmax").floats())
      #expect(try Float(nested.offset) == file.tensor("\(key).nested_offset").floats()[0])
      // The table's last bit: see dynamicTable().
      #expect(
        try relativeError(matrix.dequantized(.float32), file.tensor("\(key).nested_dequantized")) < 1e-6)
      // Zero lies between the CPU library's steps: it becomes the fourth value above, 2e-5 of the largest.
      let library = try file.tensor("\(key).nested_codes_cpu_library").array(of: UInt8.self)
      for (code, other) in zip(codes, library) {
        #expect(code == 127 ? other <= 131 : abs(Int(code) - Int(other)) <= 1)
      }
    }
  }

  @Test("the dynamic type's values are bitsandbytes'")
  func dynamicTable() throws {
    let (found, wanted) = (
      try QuantizedMatrix.dynamicTable().floats(), try file().tensor("dynamic_map").floats()
    )
    #expect(found.count == 256)
    // The engine's linspace differs in the last bit between processors.
    for (one, other) in zip(found, wanted) { #expect(abs(one - other) <= 1e-6 * abs(other)) }
  }

  @Test("rows in signed bytes are bitsandbytes'", arguments: weights)
  func int8(_ name: String) throws {
    let file = try file()
    try forEachVariant { _ in
      let matrix = try QuantizedMatrix(int8: file.tensor("\(name).weight"))
      #expect(try matrix.codes.bytes() == file.tensor("\(name).int8.codes").bytes())
      #expect(try matrix.constants?.floats() == file.tensor("\(name).int8.absmax").floats())
      #expect(
        try matrix.dequantized(.float32).bytes() == file.tensor("\(name).int8.dequantized").bytes())
    }
  }

  /// The result of an int8 layer and the gradient of its input.
  private func products(_ weight: Tensor, _ x: Tensor, _ gradient: Tensor, multipliesBytes: Bool) throws
    -> [Tensor]
  {
    let layer = try Int8Weight(quantizing: weight)
    layer.multipliesBytes = multipliesBytes
    let input = try x.copy()
    try input.setRequiresGradient(true)
    let output = try layer.linear(input, bias: nil)
    try output.backward(gradient)
    return [try output.detached(), try #require(input.gradient)]
  }

  @Test(
    "products of bytes are those of the decoded weight to the rounding of tokens to bytes",
    arguments: [DType.float32, .bfloat16])
  func byteProducts(_ dtype: DType) throws {
    try RandomState.seed(3)
    let weight = try Tensor.normal([96, 256]).to(dtype)
    let gradient = try Tensor.normal([70, 96]).to(dtype)
    let x = try Tensor.normal([70, 256])
    let decoded = try products(weight, x.to(dtype), gradient, multipliesBytes: false)
    let bytes = try products(weight, x.to(dtype), gradient, multipliesBytes: true)
    // A number is off by up to half of 1/127 of its token's largest: over hundreds of them, relative to the largest sum, 1 %.
    for (found, expected) in zip(bytes, decoded) { #expect(try relativeError(found, expected) < 0.02) }
    #expect(try Engine.hasByteProducts == (bytes[0].bytes() != decoded[0].bytes()))

    // Where the processor has no such products, the weight is decoded.
    let best = Engine.kernelVariant
    defer { Engine.kernelVariant = best }
    Engine.kernelVariant = 1
    let plain = try products(weight, x.to(dtype), gradient, multipliesBytes: false)
    let without = try products(weight, x.to(dtype), gradient, multipliesBytes: true)
    #expect(try plain.map { try $0.bytes() } == without.map { try $0.bytes() })
  }

  @Test("a few inputs that are much larger leave the others their bits", .enabled(if: Engine.hasByteProducts))
  func largeInputs() throws {
    try RandomState.seed(4)
    let (weight, gradient) = (try Tensor.normal([96, 256]), try Tensor.normal([70, 96]))
    let x = try Tensor.normal([70, 256])
    let ordinary: Double = try products(weight, x, gradient, multipliesBytes: false)[0].absolute().max()
      .item()
    // One input of 64 is kept out: four of these.
    var factors = [Float](repeating: 1, count: 256)
    for place in [0, 7, 100, 255] { factors[place] = 1_000 }
    func error(_ factors: [Float]) throws -> Double {
      let scaled = try x * Tensor(factors)
      let decoded = try products(weight, scaled, gradient, multipliesBytes: false)[0]
      let bytes = try products(weight, scaled, gradient, multipliesBytes: true)[0]
      return try (bytes - decoded).absolute().max().item() / ordinary
    }
    #expect(try error(factors) < 0.02)
    // With more of them than that the test can tell.
    for place in [8, 9] { factors[place] = 1_000 }
    #expect(try error(factors) > 0.1)
  }

  @Test("a weight that is replaced goes on multiplying bytes")
  func replacedBytes() throws {
    let weight = try Int8Weight(quantizing: Tensor.normal([32, 64]))
    weight.multipliesBytes = true
    try weight.replace(with: Tensor.normal([32, 64]))
    #expect(weight.multipliesBytes && weight.matrix.multipliesBytes)
  }

  // MARK: GGML's blocks

  static let blockTypes: [(GGMLType, QuantizedMatrix.Encoding)] = [
    (.q4_0, .q4_0), (.q4_1, .q4_1), (.q5_0, .q5_0), (.q5_1, .q5_1), (.q8_0, .q8_0), (.q2_K, .q2_K),
    (.q3_K, .q3_K), (.q4_K, .q4_K), (.q5_K, .q5_K), (.q6_K, .q6_K),
  ]

  private static func gguf() throws -> GGUFFile {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    return try #require(
      Checkpoint.open(folder.appendingPathComponent("FormatsTests/Fixtures/types.gguf")) as? GGUFFile)
  }

  /// The random blocks of a type in the fixture of FormatsTests, whose decoded numbers gguf confirms.
  private static func matrix(_ type: GGMLType, _ encoding: QuantizedMatrix.Encoding, in file: GGUFFile) throws
    -> (matrix: QuantizedMatrix, stored: StoredTensor)
  {
    let stored = try file.storedTensor("random.\(type)")
    return (
      try QuantizedMatrix(
        encoding, rows: stored.shape[0], columns: stored.shape[1], codes: stored.mappedBytes()), stored
    )
  }

  @Test("blocks decode to the bit as gguf decodes them", arguments: blockTypes)
  func blockNumbers(_ type: GGMLType, _ encoding: QuantizedMatrix.Encoding) throws {
    let (matrix, stored) = try Self.matrix(type, encoding, in: Self.gguf())
    try forEachVariant { variant in
      for dtype in [DType.float32, .bfloat16] {
        let found = try matrix.dequantized(dtype)
        #expect(
          try Self.bits(found) == Self.bits(stored.tensor(dtype: dtype)), "\(dtype), form \(variant)")
        let rows = try matrix.rows(Tensor([Int64(2), 0, 2]), dtype: dtype)
        #expect(
          try Self.bits(rows) == Self.bits(found.selecting(Tensor([Int64(2), 0, 2]))), "rows, form \(variant)"
        )
      }
    }
  }

  /// The numbers' bits; random scales make NaNs, whose sign and payload mean nothing.
  private static func bits(_ tensor: Tensor) throws -> [UInt32] {
    try tensor.floats().map { $0.isNaN ? Float.nan.bitPattern : $0.bitPattern }
  }

  // MARK: Products

  /// Matrices of every encoding, 48 × 256, out of numbers of about one.
  private static func matrices() throws -> [QuantizedMatrix] {
    try RandomState.seed(11)
    let weight = try Tensor.normal([48, 256])
    var result = [
      try QuantizedMatrix(fourBit: .nf4, weight), try QuantizedMatrix(fourBit: .fp4, weight),
      try QuantizedMatrix(fourBit: .nf4, weight, doubleQuantization: true), try QuantizedMatrix(int8: weight),
    ]
    for (_, encoding) in blockTypes {
      // Blocks of any bytes are numbers, if their scales are: fp16 0x2c00 is 1/16.
      var bytes = (0..<48 * encoding.bytes(of: 256)).map {
        UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 7)
      }
      for place in encoding.scalePlaces(in: bytes.count) {
        bytes[place] = 0
        bytes[place + 1] = 0x2c
      }
      result.append(try QuantizedMatrix(encoding, rows: 48, columns: 256, codes: Tensor(bytes)))
    }
    return result
  }

  @Test(
    "a product with quantized weights is the product with their numbers, with adapters beside it",
    arguments: [DType.float32, .bfloat16], [3, 40])
  func products(_ dtype: DType, _ tokens: Int) throws {
    let tolerance = dtype == .bfloat16 ? 2e-2 : 1e-5
    let matrices = try Self.matrices()
    // Alone, and three that share an input as query, key and value do.
    for parts in matrices.map({ [$0] }) + [[matrices[0], matrices[3], matrices[13]]] {
      let rows = parts.reduce(0) { $0 + $1.rows }
      let dense = try Tensor.concatenated(parts.map { try $0.dequantized(dtype) }).to(.float32)
      let bias = try Tensor.normal([rows]).to(dtype)
      let mask = try Tensor.ones([tokens, 256], dtype: dtype).dropout(0.3)
      let values = try [
        Tensor.normal([tokens, 256]), Tensor.normal([4, 256]) * 0.1, Tensor.normal([48, 4]),
        Tensor.normal([rows, 2]),
        Tensor.normal([2, 256]) * 0.1,
      ].map { try $0.to(dtype) }
      func leaves(_ type: DType) throws -> [Tensor] {
        try values.map {
          let leaf = try $0.to(type).copy()
          try leaf.setRequiresGradient(true)
          return leaf
        }
      }
      let wanted = try leaves(.float32)
      let low = try (wanted[0] * mask.to(.float32)).linear(wanted[1]).linear(wanted[2]) * 0.5
      let all = try (wanted[0] * mask.to(.float32)).linear(wanted[4]).linear(wanted[3]) * 2
      var output = try wanted[0].linear(dense, bias: bias.to(.float32)) + all
      let padded =
        try rows == 48 ? low : Tensor.concatenated([low, .zeros([tokens, rows - 48])], dimension: 1)
      output = try output + padded
      let direction = try Tensor.normal([tokens, rows]).to(dtype)
      try output.backward(direction.to(.float32))

      try forEachVariant { variant in
        let found = try leaves(dtype)
        let result = try found[0].quantizedLinear(
          parts, bias: bias,
          pairs: [
            (a: found[1], b: found[2], scale: 0.5, firstOutput: 0),
            (a: found[4], b: found[3], scale: 2, firstOutput: 0),
          ], mask: mask)
        #expect(try relativeError(result, output) < tolerance, "\(parts[0].encoding), form \(variant)")
        try result.backward(direction)
        for (one, other) in zip(found, wanted) {
          let (gradient, expected) = (try #require(one.gradient), try #require(other.gradient))
          #expect(
            try relativeError(gradient, expected) < 2 * tolerance, "\(parts[0].encoding), form \(variant)")
        }
        // Without adapters only the input gets a gradient.
        let alone = try values[0].copy()
        try alone.setRequiresGradient(true)
        let plain = try alone.quantizedLinear(parts, bias: nil)
        #expect(try relativeError(plain, values[0].to(.float32).linear(dense)) < tolerance)
        try plain.backward(direction)
        #expect(
          try relativeError(#require(alone.gradient), direction.to(.float32).matmul(dense)) < tolerance)
      }
    }
  }

  @Test("the loss through a quantized output embedding is the loss through its numbers")
  func loss() throws {
    // More rows than a slice of the vocabulary.
    try RandomState.seed(12)
    let weight = try QuantizedMatrix(fourBit: .nf4, Tensor.normal([9000, 64]) * 0.3)
    let labels = try Tensor((0..<30).map { Int64($0 * 299) })
    for dtype in [DType.float32, .bfloat16] {
      let tolerance = dtype == .bfloat16 ? 2e-2 : 1e-5
      let dense = try weight.dequantized(dtype)
      let values = try Tensor.normal([30, 64]).to(dtype)
      let (ours, theirs) = (try values.copy(), try values.copy())
      for leaf in [ours, theirs] { try leaf.setRequiresGradient(true) }
      let found = try ours.linearCrossEntropy(weight: weight, labels: labels)
      let wanted = try theirs.linearCrossEntropy(weight: dense, labels: labels)
      #expect(try relativeError(found, wanted) < tolerance)
      try found.backward()
      try wanted.backward()
      #expect(try relativeError(#require(ours.gradient), #require(theirs.gradient)) < tolerance)
      let (losses, predictions) = try values.linearCrossEntropyPerToken(weight: weight, labels: labels)
      let (denseLosses, densePredictions) = try values.linearCrossEntropyPerToken(
        weight: dense, labels: labels)
      #expect(try relativeError(losses, denseLosses) < tolerance)
      if dtype == .float32 { #expect(try predictions.integers() == densePredictions.integers()) }
    }
  }

  @Test("parts that do not fit each other are refused")
  func errors() throws {
    let weight = try Tensor.normal([4, 64])
    let matrix = try QuantizedMatrix(fourBit: .nf4, weight)
    expectError("128", "codes") {
      _ = try QuantizedMatrix(
        .nf4, rows: 4, columns: 64, codes: Tensor([UInt8](repeating: 0, count: 127)),
        constants: matrix.constants)
    }
    expectError("4", "constants") {
      _ = try QuantizedMatrix(.nf4, rows: 4, columns: 64, codes: matrix.codes, constants: Tensor([Float(1)]))
    }
    expectError("constants") { _ = try QuantizedMatrix(.nf4, rows: 4, columns: 64, codes: matrix.codes) }
    expectError("whole blocks of 256") {
      _ = try QuantizedMatrix(.q4_K, rows: 4, columns: 64, codes: matrix.codes)
    }
    expectError("table of 4") { _ = try matrix.rows(Tensor([Int64(4)]), dtype: .float32) }
    expectError("[5, 64]") {
      try FourBitWeight(matrix, dtype: .float32).replace(with: Tensor.normal([5, 64]))
    }
    expectError("read only") {
      let blocks = try QuantizedMatrix(
        .q8_0, rows: 1, columns: 32, codes: Tensor([UInt8](repeating: 0, count: 34)))
      try GGUFWeight(blocks, dtype: .float32).replace(with: Tensor.normal([1, 32]))
    }
  }
}

extension QuantizedMatrix.Encoding {
  /// Elements and bytes of a block, and where its fp16 scales lie.
  fileprivate var layout: (elements: Int, bytes: Int, scales: [Int]) {
    switch self {
    case .q4_0: (32, 18, [0])
    case .q4_1: (32, 20, [0, 2])
    case .q5_0: (32, 22, [0])
    case .q5_1: (32, 24, [0, 2])
    case .q8_0: (32, 34, [0])
    case .q2_K: (256, 84, [80, 82])
    case .q3_K: (256, 110, [108])
    case .q4_K: (256, 144, [0, 2])
    case .q5_K: (256, 176, [0, 2])
    case .q6_K: (256, 210, [208])
    default: (1, 1, [])
    }
  }

  fileprivate func bytes(of elements: Int) -> Int { elements / layout.elements * layout.bytes }

  fileprivate func scalePlaces(in count: Int) -> [Int] {
    stride(from: 0, to: count, by: layout.bytes).flatMap { block in layout.scales.map { block + $0 } }
  }
}
