import Files
import Foundation
import Torch

/// Writes GGUF files of version 3, the format of llama.cpp: magic, version, counts, typed metadata, tensor descriptions, then
/// the tensors, each at a multiple of the alignment.
public enum GGUF {
  private static let version: UInt32 = 3
  private static let alignment = 32
  /// GGML_MAX_DIMS and, with its terminator, GGML_MAX_NAME: loaders refuse more.
  private static let maximumDimensions = 4
  private static let maximumNameLength = 63

  /// Writes `tensors` to one file, which appears complete or not at all.
  ///
  /// Dimensions are stored innermost first, as the format wants them; `tensors` have PyTorch's order.
  ///
  /// - Parameters:
  ///   - metadata: in the file's order. `general.architecture` should be there; loaders want it.
  ///   - tensors: of the types that GGML has: float64, 32 and 16, bfloat16, signed integers.
  /// - Throws: `FormatError` for a name or key that occurs twice, a tensor that the format has no place for, and when the disk is full; a
  ///   file that was at `url` before is then still there.
  public static func write(
    _ tensors: [(name: String, tensor: Tensor)], metadata: [(key: String, value: GGUFValue)], to url: URL
  ) throws {
    let header = try header(tensors, metadata, url)
    try AtomicFile.write(url) { file in
      try file.write(header)
      for (_, tensor) in tensors {
        let host = try tensor.detached().to(device: .cpu).contiguous()
        try withExtendedLifetime(host) {
          try file.write(UnsafeRawBufferPointer(start: host.hostPointer, count: host.byteCount))
        }
        // Behind the last one too: some readers take all of the data in one piece.
        try file.write([UInt8](repeating: 0, count: aligned(file.count) - file.count))
      }
    }
  }

  private static func aligned(_ position: Int) -> Int { (position + alignment - 1) / alignment * alignment }

  private static func header(
    _ tensors: [(name: String, tensor: Tensor)], _ metadata: [(key: String, value: GGUFValue)], _ url: URL
  ) throws -> [UInt8] {
    var bytes = GGUFBytes()
    bytes.append(Array("GGUF".utf8))
    bytes.append(version)
    bytes.append(UInt64(tensors.count))
    bytes.append(UInt64(metadata.count))
    var seen: Set<String> = []
    for (key, value) in metadata {
      guard seen.insert(key).inserted else {
        throw FormatError(
          .mismatch, in: url, "the metadata \(quoted(key)) is given twice", remedy: "Give it once")
      }
      bytes.append(key)
      bytes.append(value)
    }
    seen = []
    var offset = 0
    for (name, tensor) in tensors {
      guard seen.insert(name).inserted else {
        throw FormatError(
          .mismatch, in: url, "the tensor \(quoted(name)) is given twice", remedy: "Give it once")
      }
      guard name.utf8.count <= maximumNameLength, tensor.rank <= maximumDimensions else {
        throw FormatError(
          .unsupported, in: url,
          "the tensor \(quoted(name)) has \(tensor.rank) dimensions and a name of \(name.utf8.count) bytes, and GGUF has room for "
            + "\(maximumDimensions) and \(maximumNameLength)", remedy: "Reshape or rename it")
      }
      guard let type = GGMLType(tensor.dtype) else {
        throw FormatError(
          .unsupported, in: url,
          "the tensor \(quoted(name)) has the type \(tensor.dtype.torchName), which GGUF does not have",
          remedy: "Convert it to float32, float16 or bfloat16")
      }
      bytes.append(name)
      bytes.append(UInt32(tensor.rank))
      for size in tensor.shape.reversed() { bytes.append(UInt64(size)) }
      bytes.append(type.rawValue)
      bytes.append(UInt64(offset))
      offset = aligned(offset + tensor.byteCount)
    }
    // Offsets count from here.
    bytes.pad(to: aligned(bytes.values.count))
    return bytes.values
  }
}

/// A GGUF header in the making: little-endian numbers, strings with their length before them.
private struct GGUFBytes {
  private(set) var values: [UInt8] = []

  mutating func append(_ bytes: [UInt8]) { values += bytes }

  mutating func append(_ number: some FixedWidthInteger) {
    withUnsafeBytes(of: number.littleEndian) { values += $0 }
  }

  mutating func append(_ text: String) {
    append(UInt64(text.utf8.count))
    append(Array(text.utf8))
  }

  mutating func append(_ value: GGUFValue) {
    switch value {
    case .uint8(let number): append(.uint8, number)
    case .int8(let number): append(.int8, number)
    case .uint16(let number): append(.uint16, number)
    case .int16(let number): append(.int16, number)
    case .uint32(let number): append(.uint32, number)
    case .int32(let number): append(.int32, number)
    case .float32(let number): append(.float32, number.bitPattern)
    case .bool(let flag): append(.bool, UInt8(flag ? 1 : 0))
    case .string(let text):
      append(GGUFType.string.rawValue)
      append(text)
    case .array(let array):
      append(GGUFType.array.rawValue)
      append(array)
    case .uint64(let number): append(.uint64, number)
    case .int64(let number): append(.int64, number)
    case .float64(let number): append(.float64, number.bitPattern)
    }
  }

  private mutating func append(_ array: GGUFArray) {
    switch array {
    case .uint8(let numbers): append(.uint8, elements: numbers)
    case .int8(let numbers): append(.int8, elements: numbers)
    case .uint16(let numbers): append(.uint16, elements: numbers)
    case .int16(let numbers): append(.int16, elements: numbers)
    case .uint32(let numbers): append(.uint32, elements: numbers)
    case .int32(let numbers): append(.int32, elements: numbers)
    case .float32(let numbers): append(.float32, elements: numbers.map(\.bitPattern))
    case .bool(let flags): append(.bool, elements: flags.map { UInt8($0 ? 1 : 0) })
    case .string(let texts):
      begin(.string, texts.count)
      for text in texts { append(text) }
    case .array(let arrays):
      begin(.array, arrays.count)
      for array in arrays { append(array) }
    case .uint64(let numbers): append(.uint64, elements: numbers)
    case .int64(let numbers): append(.int64, elements: numbers)
    case .float64(let numbers): append(.float64, elements: numbers.map(\.bitPattern))
    }
  }

  private mutating func append(_ type: GGUFType, _ number: some FixedWidthInteger) {
    append(type.rawValue)
    append(number)
  }

  private mutating func append(_ type: GGUFType, elements: [some FixedWidthInteger]) {
    begin(type, elements.count)
    for element in elements { append(element) }
  }

  /// What stands before the elements of an array.
  private mutating func begin(_ type: GGUFType, _ count: Int) {
    append(type.rawValue)
    append(UInt64(count))
  }

  mutating func pad(to count: Int) { values += [UInt8](repeating: 0, count: count - values.count) }
}

extension GGMLType {
  /// GGML's name for a type of the engine; nil when it has none.
  fileprivate init?(_ dtype: DType) {
    switch dtype {
    case .float64: self = .f64
    case .float32: self = .f32
    case .float16: self = .f16
    case .bfloat16: self = .bf16
    case .int64: self = .i64
    case .int32: self = .i32
    case .int16: self = .i16
    case .int8: self = .i8
    default: return nil
    }
  }
}
