import Dispatch
import Foundation

extension StoredTensor {
  /// Whether the elements can be turned into numbers here; otherwise only their bytes can be read.
  public var isDecodable: Bool { type.decoder != nil }

  /// Turns all elements into fp32, on all cores. Packed blocks are dequantized, other types converted.
  ///
  /// - Parameter output: as many as the tensor has elements.
  /// - Throws: `FormatError` when the type cannot be decoded or the size is wrong.
  public func dequantize(into output: UnsafeMutableBufferPointer<Float>) throws {
    try checkOutput(output.count)
    guard let base = output.baseAddress else { return }
    nonisolated(unsafe) let target = base  // the threads write disjoint parts
    try decodeInParallel { decoder, blocks, count, start in
      decoder.decode(blocks, count, target + start)
    }
  }

  /// Turns all elements into bfloat16: the same numbers as through fp32, rounded to nearest even, without memory for those.
  ///
  /// - Parameter output: bit patterns, as many as the tensor has elements.
  /// - Throws: `FormatError` when the type cannot be decoded or the size is wrong.
  public func dequantizeToBFloat16(into output: UnsafeMutableBufferPointer<UInt16>) throws {
    try checkOutput(output.count)
    guard let base = output.baseAddress else { return }
    nonisolated(unsafe) let target = base  // the threads write disjoint parts
    try decodeInParallel { decoder, blocks, count, start in
      // Pieces that stay in the first-level cache between decoding and rounding.
      let piece = max(1, 2048 / decoder.elementCount)
      withUnsafeTemporaryAllocation(of: Float.self, capacity: piece * decoder.elementCount) { floats in
        guard let scratch = floats.baseAddress else { return }
        var done = 0
        while done < count {
          let now = min(piece, count - done)
          decoder.decode(blocks + done * decoder.byteCount, now, scratch)
          let place = target + start + done * decoder.elementCount
          for index in 0..<now * decoder.elementCount { place[index] = bfloat16(scratch[index]) }
          done += now
        }
      }
    }
  }

  /// All elements as fp32, in row-major order.
  public func floats() throws -> [Float] {
    try [Float](unsafeUninitializedCapacity: elementCount) { buffer, count in
      try dequantize(into: UnsafeMutableBufferPointer(rebasing: buffer[..<elementCount]))
      count = elementCount
    }
  }

  private func checkOutput(_ count: Int) throws {
    guard count == elementCount else {
      throw FormatError(
        .mismatch, in: source,
        "the tensor \(quoted(name)) has \(elementCount) elements, but there is room for \(count)",
        remedy: "Give a buffer of the tensor's size")
    }
  }

  /// Calls `work` for pieces of the tensor, on several threads: decoder, first block, number of blocks, index of the first element.
  private func decodeInParallel(
    _ work:
      @Sendable (_ decoder: BlockDecoder, _ blocks: UnsafeRawPointer, _ count: Int, _ start: Int) -> Void
  ) throws {
    guard let decoder = type.decoder else {
      throw FormatError(
        .unsupported, in: source, "the tensor \(quoted(name)) has the type \(type), which cannot be decoded",
        remedy: "Use a file of another type, such as F16, BF16, Q8_0 or Q4_K_M")
    }
    bytes.withUnsafeBytes { bytes in
      guard let address = bytes.baseAddress, elementCount > 0 else { return }
      nonisolated(unsafe) let base = address  // read-only
      let blockCount = elementCount / decoder.elementCount
      // Pieces of about 64 Ki elements: enough work to pay for a thread, small enough to share it out evenly.
      let grain = max(1, 65_536 / decoder.elementCount)
      let pieces = (blockCount + grain - 1) / grain
      @Sendable func piece(_ index: Int) {
        let first = index * grain
        work(
          decoder, base + first * decoder.byteCount, min(grain, blockCount - first),
          first * decoder.elementCount)
      }
      if pieces == 1 { piece(0) } else { DispatchQueue.concurrentPerform(iterations: pieces, execute: piece) }
    }
  }
}
