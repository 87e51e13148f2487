/// 256 elements: 16 groups of 16 three-bit numbers less 4, each with a 6-bit scale less 32.
///
/// The high bits lie apart, inverted in effect: a bit that is *not* set takes 4 away.
enum Q3_K: BlockFormat {
  static var elementCount: Int { 256 }
  static var byteCount: Int { 110 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let high = block.assumingMemoryBound(to: UInt8.self)
    let packed = (block + 32).assumingMemoryBound(to: UInt8.self)
    let scales = (block + 96).assumingMemoryBound(to: UInt8.self)
    let scale = half(block + 108)
    for group in 0..<16 {
      // The scales' low four bits lie in 8 bytes, first the low halves; their high two in 4 bytes.
      let low = (scales[group & 7] &>> (group < 8 ? 0 : 4)) & 15
      let top = (scales[8 &+ (group & 3)] &>> (UInt8(group >> 2) &* 2)) & 3
      let groupScale = scale * Float(Int32(low | top << 4) &- 32)

      let column: Int = (group & 1) &* 16
      let start: Int = (group >> 3) &* 32 &+ column
      let bytes = packed + start
      let shift = UInt8((group >> 1) & 3) &* 2
      let highBytes = high + column
      let bit = UInt8(group >> 1)
      let target = output + (group &* 16)
      for index in 0..<16 {
        let number = Int32((bytes[index] &>> shift) & 3)
        let isSet = Int32((highBytes[index] &>> bit) & 1)
        target[index] = groupScale * Float(number &- (1 &- isSet) &* 4)
      }
    }
  }
}
