/// 32 elements: a scale and 4-bit numbers less 8. The low halves of the bytes come first.
enum Q4_0: BlockFormat {
  static var elementCount: Int { 32 }
  static var byteCount: Int { 18 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let scale = half(block)
    let packed = (block + 2).assumingMemoryBound(to: UInt8.self)
    for index in 0..<16 {
      let byte = packed[index]
      output[index] = scale * Float(Int32(byte & 15) &- 8)
      output[index &+ 16] = scale * Float(Int32(byte >> 4) &- 8)
    }
  }
}
