import Torch

extension CheckpointReader {
  /// The tensor of this name; see ``StoredTensor/tensor(dtype:device:)``.
  ///
  /// - Parameter dtype: the type of the result. Nil keeps the stored one; packed blocks then become fp32.
  /// - Throws: `FormatError` when there is no such tensor or its type cannot be computed with, `TorchError` when memory runs out.
  public func tensor(_ name: String, dtype: DType? = nil, device: Device = .cpu) throws -> Tensor {
    try storedTensor(name).tensor(dtype: dtype, device: device)
  }
}

extension StoredTensor {
  /// The tensor for the engine: dense types are converted, packed blocks dequantized.
  ///
  /// On the CPU a dense tensor that needs no conversion lies over the mapped file, which it keeps alive: nothing is copied,
  /// and pages that are not used are not read. Writing to it changes its pages in this process, for every other
  /// tensor of the same file's bytes too, and never the file; who trains it should copy it first.
  ///
  /// - Parameter dtype: the type of the result. Nil keeps the stored one; packed blocks then become fp32.
  public func tensor(dtype: DType? = nil, device: Device = .cpu) throws -> Tensor {
    switch type {
    case .dense(let stored): try dense(stored, dtype ?? stored, device)
    case .blocks: try dequantized(dtype ?? .float32, device)
    case .other:
      throw FormatError(
        .unsupported, in: source,
        "the tensor \(quoted(name)) has the type \(type), which the engine does not compute with",
        remedy: "Convert it to BF16, F16 or F32")
    }
  }

  /// The encoded elements, uint8 `[n]`, where they lie: nothing is copied, and a mapped file stays open while the tensor lives.
  ///
  /// The tensor must not be written to.
  public func mappedBytes() throws -> Tensor {
    try bytes.withUnsafeBytes {
      try Tensor(wrapping: $0, shape: [$0.count], dtype: .uint8, owner: bytes.lifetime)
    }
  }

  private func dense(_ stored: DType, _ wanted: DType, _ device: Device) throws -> Tensor {
    try bytes.withUnsafeBytes { memory in
      // The source may stay where it is, if it is aligned as the engine expects.
      let isAligned = Int(bitPattern: memory.baseAddress) % stored.byteCount == 0
      guard elementCount > 0, isAligned else {
        let copy = try Tensor(copying: memory, shape: shape, dtype: stored, device: device)
        return stored == wanted ? copy : try copy.to(wanted)
      }
      return try Tensor(wrapping: memory, shape: shape, dtype: stored, owner: bytes.lifetime).to(
        wanted, device: device)
    }
  }

  private func dequantized(_ wanted: DType, _ device: Device) throws -> Tensor {
    guard elementCount > 0 else { return try Tensor.empty(shape, dtype: wanted, device: device) }
    // Decoding straight to bfloat16 saves a pass over memory twice the size; everything else goes through fp32.
    let decoded: DType = wanted == .bfloat16 ? .bfloat16 : .float32
    let memory = try HeapBytes(count: elementCount * decoded.byteCount) { buffer in
      if decoded == .bfloat16 {
        try dequantizeToBFloat16(into: buffer.bindMemory(to: UInt16.self))
      } else {
        try dequantize(into: buffer.bindMemory(to: Float.self))
      }
    }
    return try Tensor(wrapping: memory.bytes, shape: shape, dtype: decoded, owner: memory).to(
      wanted, device: device)
  }
}

extension TensorToWrite {
  /// A tensor of the engine under `name`; it is copied to the host when it is written.
  public init(name: String, tensor: Tensor) {
    self.init(name: name, dtype: tensor.dtype, shape: tensor.shape) { consume in
      let host = try tensor.detached().to(device: .cpu).contiguous()
      try withExtendedLifetime(host) {
        try consume(UnsafeRawBufferPointer(start: host.hostPointer, count: host.byteCount))
      }
    }
  }
}
