/// 32 elements: a scale, a minimum and 4-bit numbers. The low halves of the bytes come first.
enum Q4_1: BlockFormat {
  static var elementCount: Int { 32 }
  static var byteCount: Int { 20 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let scale = half(block)
    let minimum = half(block + 2)
    let packed = (block + 4).assumingMemoryBound(to: UInt8.self)
    for index in 0..<16 {
      let byte = packed[index]
      output[index] = scale * Float(Int32(byte & 15)) + minimum
      output[index &+ 16] = scale * Float(Int32(byte >> 4)) + minimum
    }
  }
}
