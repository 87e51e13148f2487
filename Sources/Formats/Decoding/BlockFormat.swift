/// An encoding of numbers in blocks of a fixed number of elements and bytes; plain types are blocks of one element.
///
/// Decoding follows `gguf.quants.dequantize` operation for operation, so that results are equal to the bit. Swift
/// never contracts a product and a sum into a fused operation, which would change them.
protocol BlockFormat: SendableMetatype {
  static var elementCount: Int { get }
  static var byteCount: Int { get }

  /// Decodes one block. Neither pointer has any particular alignment but that of its elements.
  static func decode(_ block: UnsafeRawPointer, into output: UnsafeMutablePointer<Float>)
}

/// `BlockFormat` without its type: what the loops over a tensor need.
struct BlockDecoder: Sendable {
  let elementCount: Int
  let byteCount: Int
  /// Decodes a number of consecutive blocks.
  let decode:
    @Sendable (_ blocks: UnsafeRawPointer, _ count: Int, _ output: UnsafeMutablePointer<Float>) -> Void

  @inline(__always)
  init<Format: BlockFormat>(_ format: Format.Type) {
    elementCount = Format.elementCount
    byteCount = Format.byteCount
    decode = { blocks, count, output in
      for index in 0..<count {
        Format.decode(blocks + (index &* Format.byteCount), into: output + (index &* Format.elementCount))
      }
    }
  }
}

extension StoredType {
  /// How to turn stored elements into fp32; nil when that is not implemented for this type.
  var decoder: BlockDecoder? {
    switch self {
    case .dense(let type): BlockDecoder(type)
    case .blocks(let type): BlockDecoder(type)
    case .other: nil
    }
  }
}

extension BlockDecoder {
  /// The packed types that can be decoded. Another one is a file in `Blocks` and a line here.
  init?(_ type: GGMLType) {
    switch type {
    case .q4_0: self.init(Q4_0.self)
    case .q4_1: self.init(Q4_1.self)
    case .q5_0: self.init(Q5_0.self)
    case .q5_1: self.init(Q5_1.self)
    case .q8_0: self.init(Q8_0.self)
    case .q2_K: self.init(Q2_K.self)
    case .q3_K: self.init(Q3_K.self)
    case .q4_K: self.init(Q4_K.self)
    case .q5_K: self.init(Q5_K.self)
    case .q6_K: self.init(Q6_K.self)
    default: return nil
    }
  }
}
