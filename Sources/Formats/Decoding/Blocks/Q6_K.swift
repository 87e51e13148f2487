/// 256 elements: 16 groups of 16 six-bit numbers less 32, each with a signed 8-bit scale.
enum Q6_K: BlockFormat {
  static var elementCount: Int { 256 }
  static var byteCount: Int { 210 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let low = block.assumingMemoryBound(to: UInt8.self)
    let high = (block + 128).assumingMemoryBound(to: UInt8.self)
    let scales = (block + 192).assumingMemoryBound(to: Int8.self)
    let scale = half(block + 208)
    for group in 0..<16 {
      // Each half of the block is four rows of 32: two out of the low four bits of 64 bytes, two out of the high four; the upper
      // two bits of all four rows share 32 bytes.
      let row = (group >> 1) & 3
      let column = (group & 1) &* 16
      let lowStart: Int = (group >> 3) &* 64 &+ (row & 1) &* 32 &+ column
      let lowBytes = low + lowStart
      let lowShift = UInt8(row >> 1) &* 4
      let highStart: Int = (group >> 3) &* 32 &+ column
      let highBytes = high + highStart
      let highShift = UInt8(row) &* 2
      let groupScale = scale * Float(Int32(scales[group]))
      let target = output + (group &* 16)
      for index in 0..<16 {
        let number = (lowBytes[index] &>> lowShift) & 15 | ((highBytes[index] &>> highShift) & 3) << 4
        target[index] = groupScale * Float(Int32(number) &- 32)
      }
    }
  }
}
