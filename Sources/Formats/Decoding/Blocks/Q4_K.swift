/// 256 elements: 8 groups of 32 four-bit numbers, each with a 6-bit scale and a 6-bit minimum, which a scale for the whole block multiplies.
enum Q4_K: BlockFormat {
  static var elementCount: Int { 256 }
  static var byteCount: Int { 144 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let scale = half(block)
    let minimum = half(block + 2)
    let scales = (block + 4).assumingMemoryBound(to: UInt8.self)
    let packed = (block + 16).assumingMemoryBound(to: UInt8.self)
    for group in 0..<8 {
      let (six, least) = scaleAndMinimum(scales, group: group)
      let groupScale = scale * Float(Int32(six))
      let groupMinimum = minimum * Float(Int32(least))
      let bytes = packed + ((group >> 1) &* 32)
      let shift = UInt8(group & 1) &* 4
      let target = output + (group &* 32)
      for index in 0..<32 {
        target[index] = groupScale * Float(Int32((bytes[index] &>> shift) & 15)) - groupMinimum
      }
    }
  }

  /// Scale and minimum of a group out of 12 bytes: those of the first four groups lie in the low 6 bits of bytes 0 to 3 and 4 to 7;
  /// those of the others have their low 4 bits in bytes 8 to 11 and their high 2 in what is left above.
  @inline(__always)
  static func scaleAndMinimum(_ scales: UnsafePointer<UInt8>, group: Int) -> (UInt8, UInt8) {
    guard group >= 4 else { return (scales[group] & 63, scales[group &+ 4] & 63) }
    let low = scales[group &+ 4]
    return (
      (low & 15) | (scales[group &- 4] >> 2) & 0x30,
      (low >> 4) | (scales[group] >> 2) & 0x30
    )
  }
}
