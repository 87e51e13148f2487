/// 32 elements: a scale and signed bytes.
enum Q8_0: BlockFormat {
  static var elementCount: Int { 32 }
  static var byteCount: Int { 34 }

  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let scale = half(block)
    let numbers = (block + 2).assumingMemoryBound(to: Int8.self)
    for index in 0..<32 { output[index] = Float(Int32(numbers[index])) * scale }
  }
}
