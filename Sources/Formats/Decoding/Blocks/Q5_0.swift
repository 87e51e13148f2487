/// 32 elements: a scale and 5-bit numbers less 16, whose highest bits lie together in one word.
enum Q5_0: BlockFormat {
  static var elementCount: Int { 32 }
  static var byteCount: Int { 22 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let scale = half(block)
    let high = UInt32(littleEndian: (block + 2).loadUnaligned(as: UInt32.self))
    let packed = (block + 6).assumingMemoryBound(to: UInt8.self)
    for index in 0..<16 {
      let byte = packed[index]
      let first = UInt32(byte & 15) | ((high >> UInt32(index)) & 1) << 4
      let second = UInt32(byte >> 4) | ((high >> UInt32(index &+ 16)) & 1) << 4
      output[index] = scale * Float(Int32(bitPattern: first) &- 16)
      output[index &+ 16] = scale * Float(Int32(bitPattern: second) &- 16)
    }
  }
}
