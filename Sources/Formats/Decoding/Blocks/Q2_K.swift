/// 256 elements: 16 groups of 16 two-bit numbers, each with a 4-bit scale and a 4-bit minimum, which a scale for the whole block multiplies.
enum Q2_K: BlockFormat {
  static var elementCount: Int { 256 }
  static var byteCount: Int { 84 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let scales = block.assumingMemoryBound(to: UInt8.self)
    let packed = (block + 16).assumingMemoryBound(to: UInt8.self)
    let scale = half(block + 80)
    let minimum = half(block + 82)
    for group in 0..<16 {
      // 32 bytes hold 4 × 32 numbers, two bits a byte for each.
      let start: Int = (group >> 3) &* 32 &+ (group & 1) &* 16
      let bytes = packed + start
      let shift = UInt8((group >> 1) & 3) &* 2
      let groupScale = scale * Float(Int32(scales[group] & 15))
      let groupMinimum = minimum * Float(Int32(scales[group] >> 4))
      let target = output + (group &* 16)
      for index in 0..<16 {
        target[index] = groupScale * Float(Int32((bytes[index] &>> shift) & 3)) - groupMinimum
      }
    }
  }
}
