/// The IEEE half-precision number with these bits.
///
/// Swift's own `Float16` does not exist on Intel Macs, and without F16C, which the baseline of x86-64 lacks, it calls a
/// function for every number. This is free of branches, so loops over it use vector instructions.
@inline(__always)
func float(half bits: UInt16) -> Float {
  let wide = UInt32(bits)
  let shifted = (wide & 0x7FFF) << 13  // exponent and mantissa where fp32 has them
  let exponent = shifted & 0x0F80_0000
  let rebiased = shifted &+ 0x3800_0000  // bias 15 → 127
  // Subnormal: read it with an exponent of one more, and take the implicit bit away again; exact.
  let subnormal = (Float(bitPattern: rebiased &+ 0x0080_0000) - Float(bitPattern: 0x3880_0000)).bitPattern
  let special = rebiased &+ 0x3800_0000  // infinity and NaN: exponent of all ones
  let magnitude = exponent == 0x0F80_0000 ? special : (exponent == 0 ? subnormal : rebiased)
  return Float(bitPattern: magnitude | (wide & 0x8000) << 16)
}

/// The little-endian half-precision number at `pointer`.
@inline(__always)
func half(_ pointer: UnsafeRawPointer) -> Float {
  float(half: UInt16(littleEndian: pointer.loadUnaligned(as: UInt16.self)))
}

/// The bits of `value` as bfloat16: rounded to nearest, ties to even, as PyTorch converts; every NaN becomes a quiet one.
@inline(__always)
func bfloat16(_ value: Float) -> UInt16 {
  let bits = value.bitPattern
  let rounded = (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16
  return UInt16(truncatingIfNeeded: value.isNaN ? 0x7FC0 : rounded)
}
