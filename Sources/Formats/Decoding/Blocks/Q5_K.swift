/// 256 elements: like Q4_K, with a fifth bit for each number, bit g of 32 shared bytes for group g.
enum Q5_K: BlockFormat {
  static var elementCount: Int { 256 }
  static var byteCount: Int { 176 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let scale = half(block)
    let minimum = half(block + 2)
    let scales = (block + 4).assumingMemoryBound(to: UInt8.self)
    let high = (block + 16).assumingMemoryBound(to: UInt8.self)
    let packed = (block + 48).assumingMemoryBound(to: UInt8.self)
    for group in 0..<8 {
      let (six, least) = Q4_K.scaleAndMinimum(scales, group: group)
      let groupScale = scale * Float(Int32(six))
      let groupMinimum = minimum * Float(Int32(least))
      let bytes = packed + ((group >> 1) &* 32)
      let shift = UInt8(group & 1) &* 4
      let bit = UInt8(group)
      let target = output + (group &* 32)
      for index in 0..<32 {
        let number = (bytes[index] &>> shift) & 15 | ((high[index] &>> bit) & 1) << 4
        target[index] = groupScale * Float(Int32(number)) - groupMinimum
      }
    }
  }
}
