import Torch

/// Plain element types as blocks of one element.
extension BlockDecoder {
  init(_ type: DType) {
    switch type {
    case .float64: self.init(Float64Element.self)
    case .float32: self.init(Float32Element.self)
    case .float16: self.init(Float16Element.self)
    case .bfloat16: self.init(BFloat16Element.self)
    case .float8E4M3: self.init(Float8E4M3Element.self)
    case .float8E5M2: self.init(Float8E5M2Element.self)
    case .int64: self.init(IntegerElement<Int64>.self)
    case .int32: self.init(IntegerElement<Int32>.self)
    case .int16: self.init(IntegerElement<Int16>.self)
    case .int8: self.init(IntegerElement<Int8>.self)
    case .uint64: self.init(IntegerElement<UInt64>.self)
    case .uint32: self.init(IntegerElement<UInt32>.self)
    case .uint16: self.init(IntegerElement<UInt16>.self)
    case .uint8: self.init(IntegerElement<UInt8>.self)
    case .bool: self.init(BoolElement.self)
    }
  }
}

private enum Float32Element: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { 4 }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    output.pointee = Float(bitPattern: UInt32(littleEndian: block.loadUnaligned(as: UInt32.self)))
  }
}

private enum Float64Element: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { 8 }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    output.pointee = Float(Double(bitPattern: UInt64(littleEndian: block.loadUnaligned(as: UInt64.self))))
  }
}

private enum Float16Element: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { 2 }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    output.pointee = half(block)
  }
}

private enum BFloat16Element: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { 2 }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    output.pointee = Float(
      bitPattern: UInt32(UInt16(littleEndian: block.loadUnaligned(as: UInt16.self))) << 16)
  }
}

/// 4 bits of exponent, 3 of mantissa, no infinities: all ones is NaN.
private enum Float8E4M3Element: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { 1 }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    let byte = UInt32(block.load(as: UInt8.self))
    let sign = (byte & 0x80) << 24
    let exponent = (byte >> 3) & 15
    let mantissa = byte & 7
    let magnitude: UInt32 =
      exponent == 15 && mantissa == 7
      ? 0x7FC0_0000
      : exponent == 0
        ? (Float(mantissa) * 0x1p-9).bitPattern  // subnormal: mantissa × 2⁻³ × 2⁻⁶
        : (exponent + 120) << 23 | mantissa << 20
    output.pointee = Float(bitPattern: sign | magnitude)
  }
}

/// The upper half of an IEEE half-precision number.
private enum Float8E5M2Element: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { 1 }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    output.pointee = float(half: UInt16(block.load(as: UInt8.self)) << 8)
  }
}

private enum IntegerElement<Integer: FixedWidthInteger>: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { MemoryLayout<Integer>.size }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    output.pointee = Float(Integer(littleEndian: block.loadUnaligned(as: Integer.self)))
  }
}

/// Any byte but 0 is true, as in PyTorch.
private enum BoolElement: BlockFormat {
  static var elementCount: Int { 1 }
  static var byteCount: Int { 1 }
  @inline(__always)
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>) {
    output.pointee = block.load(as: UInt8.self) == 0 ? 0 : 1
  }
}
