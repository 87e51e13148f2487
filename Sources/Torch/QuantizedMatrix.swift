import CTorch

/// A weight matrix `[rows, columns]` in few bits an element: codes, and the constants that give them their scale.
///
/// It is read only. Products decode it on their way; on the CPU with kernels of their own (Sources/CTorch/Kernels/Quantized).
public struct QuantizedMatrix {
  /// How elements are encoded.
  // swift-format-ignore: AlwaysUseLowerCamelCase
  public enum Encoding: String, CaseIterable, Sendable {
    /// Four bits with the quantiles of a normal distribution as values (Dettmers et al. 2023, arXiv:2305.14314).
    case nf4
    /// Four bits as a floating-point number: sign, two bits of exponent, one of mantissa.
    case fp4
    /// Signed bytes with the largest magnitude of each row (Dettmers et al. 2022, arXiv:2208.07339).
    case int8
    // Blocks of GGML: see Sources/Formats/Decoding/Blocks for each.
    case q4_0, q4_1, q5_0, q5_1, q8_0, q2_K, q3_K, q4_K, q5_K, q6_K
  }

  /// Constants that are themselves quantized: constant i is table[codes[i]] · scales[i / blockSize] + offset.
  public struct NestedConstants {
    public let scales: Tensor  // fp32 [blocks of constants]
    public let table: Tensor  // fp32 [256], ascending
    public let offset: Double
    /// Constants that share a scale.
    public let blockSize: Int

    public init(scales: Tensor, table: Tensor, offset: Double, blockSize: Int) {
      self.scales = scales
      self.table = table
      self.offset = offset
      self.blockSize = blockSize
    }
  }

  public let encoding: Encoding
  public let rows: Int
  public let columns: Int
  /// uint8, or int8 for that encoding, in the order that the encoding's format has.
  public let codes: Tensor
  /// Elements of the flattened matrix that share a constant; of NF4 and FP4.
  public let blockSize: Int
  /// fp32 by block or row; uint8 codes when ``nested`` is given; nil for GGML's blocks, which hold theirs.
  public let constants: Tensor?
  public let nested: NestedConstants?
  /// Of int8: whether products with many tokens quantize these too, each by its largest magnitude, and multiply bytes (SwitchBack, Wortsman et
  /// al. 2023, arXiv:2304.13013), instead of decoding the matrix. Only with ``Engine/hasByteProducts``.
  public var multipliesBytes = false

  /// - Throws: ``TorchError`` when the parts do not fit each other.
  public init(
    _ encoding: Encoding, rows: Int, columns: Int, codes: Tensor, blockSize: Int = 64,
    constants: Tensor? = nil,
    nested: NestedConstants? = nil
  ) throws {
    self.encoding = encoding
    self.rows = rows
    self.columns = columns
    self.codes = codes
    self.blockSize = blockSize
    self.constants = constants
    self.nested = nested
    try withEngineValue { try checkedStatus(ct_quantized_check($0)) }
  }

  /// The matrix with its parts on `device`.
  package func moved(to device: Device) throws -> QuantizedMatrix {
    var there = try QuantizedMatrix(
      encoding, rows: rows, columns: columns, codes: codes.to(device: device), blockSize: blockSize,
      constants: constants?.to(device: device),
      nested: nested.map {
        try NestedConstants(
          scales: $0.scales.to(device: device), table: $0.table.to(device: device), offset: $0.offset,
          blockSize: $0.blockSize)
      })
    there.multipliesBytes = multipliesBytes
    return there
  }

  /// Bytes that codes and constants take.
  public var byteCount: Int {
    [codes, constants, nested?.scales, nested?.table].reduce(0) { $0 + ($1?.byteCount ?? 0) }
  }

  /// The matrix in `dtype`: each element is computed in fp32 and rounded once.
  public func dequantized(_ dtype: DType) throws -> Tensor {
    try withEngineValue { try checked(ct_dequantize($0, dtype.engineValue)) }
  }

  /// The rows that int64 `indices` `[n]` name, `[n, columns]`.
  public func rows(_ indices: Tensor, dtype: DType) throws -> Tensor {
    try withEngineValue { try checked(ct_quantized_rows($0, indices.handle, dtype.engineValue)) }
  }

  private func checked(_ handle: OpaquePointer?) throws -> Tensor {
    guard let handle else { throw TorchError.last("\(encoding.rawValue) weight", [codes]) }
    return Tensor(owning: handle)
  }

  private func checkedStatus(_ status: Int32) throws {
    guard status == 0 else { throw TorchError.last("\(encoding.rawValue) weight", [codes]) }
  }

  func withEngineValue<Result>(_ body: (UnsafePointer<CTQuantizedMatrix>) throws -> Result) rethrows -> Result
  {
    try QuantizedMatrix.withEngineValues([self]) { parts, _ in try body(parts) }
  }

  static func withEngineValues<Result>(
    _ matrices: [QuantizedMatrix], _ body: (UnsafePointer<CTQuantizedMatrix>, Int32) throws -> Result
  ) rethrows -> Result {
    precondition(!matrices.isEmpty, "a product needs a matrix")
    return try withExtendedLifetime(matrices) {
      try matrices.map(\.engineValue).withUnsafeBufferPointer {
        try body($0.baseAddress!, Int32($0.count))
      }
    }
  }

  private var engineValue: CTQuantizedMatrix {
    CTQuantizedMatrix(
      encoding: encoding.engineValue, rows: Int64(rows), columns: Int64(columns), codes: codes.handle,
      block_size: Int64(blockSize), constants: constants?.handle, nested_constants: nested?.scales.handle,
      nested_table: nested?.table.handle, nested_offset: nested?.offset ?? 0,
      nested_block_size: Int64(nested?.blockSize ?? 0), multiplies_bytes: multipliesBytes)
  }
}

extension QuantizedMatrix.Encoding {
  var engineValue: CTEncoding {
    switch self {
    case .nf4: CT_NF4
    case .fp4: CT_FP4
    case .int8: CT_ROWWISE_INT8
    case .q4_0: CT_Q4_0
    case .q4_1: CT_Q4_1
    case .q5_0: CT_Q5_0
    case .q5_1: CT_Q5_1
    case .q8_0: CT_Q8_0
    case .q2_K: CT_Q2_K
    case .q3_K: CT_Q3_K
    case .q4_K: CT_Q4_K
    case .q5_K: CT_Q5_K
    case .q6_K: CT_Q6_K
    }
  }
}

// MARK: - Products

extension Tensor {
  /// x Wᵀ + b + Σ scale · (mask · x Aᵀ) Bᵀ as `loraLinear`, with frozen weights `parts` that share the input and whose outputs lie
  /// behind one another; `pairs` may be empty.
  package func quantizedLinear(
    _ parts: [QuantizedMatrix], bias: Tensor?,
    pairs: [(a: Tensor, b: Tensor, scale: Double, firstOutput: Int)] = [], mask: Tensor? = nil
  ) throws -> Tensor {
    let result = QuantizedMatrix.withEngineValues(parts) { parts, partCount in
      Tensor.withHandles(pairs.map(\.a)) { a, count in
        Tensor.withHandles(pairs.map(\.b)) { b, _ in
          ct_quantized_linear(
            handle, parts, partCount, bias?.handle, a, b, pairs.map(\.scale),
            pairs.map { Int64($0.firstOutput) },
            count, mask?.handle)
        }
      }
    }
    guard let result else {
      throw TorchError.last("linear with quantized weights", [self] + parts.map(\.codes))
    }
    return Tensor(owning: result)
  }

  /// As `linearCrossEntropy(weight:labels:)`, with a weight that is decoded slice by slice of the vocabulary.
  package func linearCrossEntropy(weight: QuantizedMatrix, labels: Tensor) throws -> Tensor {
    try Tensor.checked("linear cross-entropy", self, labels) {
      weight.withEngineValue { ct_quantized_cross_entropy(handle, $0, labels.handle) }
    }
  }

  /// As `linearCrossEntropyPerToken(weight:labels:)`.
  package func linearCrossEntropyPerToken(weight: QuantizedMatrix, labels: Tensor) throws -> (
    losses: Tensor, predictions: Tensor
  ) {
    var losses: OpaquePointer?
    var predictions: OpaquePointer?
    try checkedStatus("linear cross-entropy", labels) {
      weight.withEngineValue {
        ct_quantized_cross_entropy_per_token(handle, $0, labels.handle, &losses, &predictions)
      }
    }
    return (Tensor(owning: losses!), Tensor(owning: predictions!))
  }
}

// MARK: - Quantization

extension QuantizedMatrix {
  /// The field's block of constants in double quantization (QLoRA, section 3).
  public static let nestedBlockSize = 256

  /// `weight` `[rows, columns]` in NF4 or FP4: blocks of `blockSize` elements share the constant that is their largest
  /// magnitude; with `doubleQuantization` the constants, less their mean, become 8-bit codes of the dynamic type.
  ///
  /// Codes and constants are those of bitsandbytes. They are made on the host, and lie where `weight` does.
  public init(
    fourBit encoding: Encoding, _ weight: Tensor, blockSize: Int = 64, doubleQuantization: Bool = false
  ) throws {
    precondition(encoding == .nf4 || encoding == .fp4, "four bits are NF4 or FP4")
    let (codes, constants) = try Self.pair("quantize to \(encoding.rawValue)", weight) {
      ct_quantize_four_bit(weight.handle, encoding.engineValue, Int64(blockSize), $0, $1)
    }
    guard doubleQuantization else {
      self = try QuantizedMatrix(
        encoding, rows: weight.size(0), columns: weight.size(1), codes: codes, blockSize: blockSize,
        constants: constants
      ).moved(to: weight.device)
      return
    }
    let offset = try constants.mean()
    let table = try Self.dynamicTable()
    let centred = try constants - offset
    let (constantCodes, scales) = try Self.pair("quantize constants", centred) {
      ct_quantize_blockwise(centred.handle, table.handle, Int64(Self.nestedBlockSize), $0, $1)
    }
    self = try QuantizedMatrix(
      encoding, rows: weight.size(0), columns: weight.size(1), codes: codes, blockSize: blockSize,
      constants: constantCodes,
      nested: NestedConstants(
        scales: scales, table: table, offset: offset.item(), blockSize: Self.nestedBlockSize)
    ).moved(to: weight.device)
  }

  /// The 16 values of NF4 or FP4 in the order of their codes, fp32 `[16]`.
  public static func values(of encoding: Encoding) throws -> Tensor {
    // Sixteen codes decoded with the constant 1.
    let codes = try Tensor((0..<8).map { (pair: UInt8) in pair * 2 << 4 | (pair * 2 + 1) })
    return try QuantizedMatrix(encoding, rows: 1, columns: 16, codes: codes, constants: Tensor([Float(1)]))
      .dequantized(.float32).reshaped(16)
  }

  /// `weight` `[rows, columns]` as signed bytes, each row scaled by its largest magnitude; rounded to fp16 first, as LLM.int8 is
  /// defined on that type. Made on the host; codes and constants lie where `weight` does.
  public init(int8 weight: Tensor) throws {
    let (codes, constants) = try Self.pair("quantize to int8", weight) {
      ct_quantize_rows(weight.handle, $0, $1)
    }
    self = try QuantizedMatrix(
      .int8, rows: weight.size(0), columns: weight.size(1), codes: codes, constants: constants
    ).moved(to: weight.device)
  }

  private static func pair(
    _ operation: String, _ operand: Tensor,
    _ body: (UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<OpaquePointer?>) -> Int32
  ) throws -> (Tensor, Tensor) {
    var first: OpaquePointer?
    var second: OpaquePointer?
    guard body(&first, &second) == 0, let first, let second else {
      throw TorchError.last(operation, [operand])
    }
    return (Tensor(owning: first), Tensor(owning: second))
  }

  /// The values of the signed dynamic 8-bit type (Dettmers 2016, arXiv:1511.04561), fp32 `[256]`, ascending.
  public static func dynamicTable() throws -> Tensor {
    guard let table = ct_dynamic_table() else { throw TorchError.last("dynamic table", []) }
    return Tensor(owning: table)
  }
}

extension Engine {
  /// Whether this processor has dot products of bytes (AVX-512 VNNI), which take half the time of those of bfloat16.
  public static var hasByteProducts: Bool { ct_has_byte_products() }

  /// The compiled form of the CPU kernels in use: 0 portable, 1 AVX2, 2 AVX-512, 3 AVX-512 with bf16 products.
  ///
  /// Setting one that the processor lacks takes its best. For tests that compare them.
  package static var kernelVariant: Int {
    get { Int(ct_kernel_variant()) }
    set { _ = ct_set_kernel_variant(Int32(newValue)) }
  }
}
