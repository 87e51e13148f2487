import Files
import Foundation
import Torch

/// A tensor that is to be written: what the header says, and a way to its bytes.
///
/// The bytes are asked for when it is their turn, so that a model on another device is copied tensor by tensor.
public struct TensorToWrite {
  public let name: String
  public let type: SafetensorsType
  public let shape: [Int]
  /// Gives all bytes to `consume`, row-major and little-endian, in one piece or several.
  let provide: (_ consume: (UnsafeRawBufferPointer) throws -> Void) throws -> Void

  public init(
    name: String, type: SafetensorsType, shape: [Int],
    bytes provide: @escaping (_ consume: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) {
    self.name = name
    self.type = type
    self.shape = shape
    self.provide = provide
  }

  public init(
    name: String, dtype: DType, shape: [Int],
    bytes provide: @escaping (_ consume: (UnsafeRawBufferPointer) throws -> Void) throws -> Void
  ) {
    self.init(name: name, type: SafetensorsType(dtype), shape: shape, bytes: provide)
  }

  /// A tensor of a checkpoint, copied as it is. Packed GGML blocks have no safetensors type and throw.
  public init(_ tensor: StoredTensor) throws {
    let type: SafetensorsType
    switch tensor.type {
    case .dense(let dtype): type = SafetensorsType(dtype)
    case .other(let other): type = other
    case .blocks(let blocks):
      throw FormatError(
        .unsupported, in: tensor.source,
        "the tensor \(quoted(tensor.name)) is packed as \(blocks), which safetensors cannot hold",
        remedy: "Dequantize it first")
    }
    self.init(name: tensor.name, type: type, shape: tensor.shape) { consume in
      try tensor.bytes.withUnsafeBytes(consume)
    }
  }

  /// The size in the file, or nil when the shape overflows.
  var byteCount: Int? { checkedElementCount(shape).flatMap(type.byteCount(elementCount:)) }
}

/// Writes safetensors files: byte for byte what the reference implementation writes for the same tensors.
public enum Safetensors {
  /// Writes `tensors` to one file, which appears complete or not at all.
  ///
  /// - Parameter metadata: goes to `__metadata__`; transformers and PEFT want `format: pt`. Keys are written sorted.
  /// - Throws: `FormatError` when a name occurs twice or a shape overflows, before anything is written, and when the disk is full; a file that was
  ///   at `url` before is then still there.
  public static func write(
    _ tensors: [TensorToWrite], metadata: [String: String] = ["format": "pt"], to url: URL
  ) throws {
    try AtomicFile.write(url) { try write(tensors, metadata: metadata, to: $0) }
  }

  static func write(_ tensors: [TensorToWrite], metadata: [String: String], to file: AtomicFile) throws {
    let sorted = tensors.sorted { left, right in
      left.type.order != right.type.order
        ? left.type.order > right.type.order : left.name.utf8.lexicographicallyPrecedes(right.name.utf8)
    }
    let header = try header(sorted, metadata: metadata, url: file.url)
    try file.write(withUnsafeBytes(of: UInt64(header.count).littleEndian) { Array($0) })
    try file.write(header)
    for tensor in sorted {
      let start = file.count
      try tensor.provide { try file.write($0) }
      guard file.count - start == tensor.byteCount else {
        throw FormatError(
          .mismatch, in: file.url,
          "the tensor \(quoted(tensor.name)) of shape \(tensor.shape) and type \(tensor.type.rawValue) gave \(file.count - start) bytes"
            + " instead of \(tensor.byteCount ?? 0)", remedy: "Give a contiguous tensor of that type")
      }
    }
  }

  /// The JSON header, padded with spaces to a multiple of 8 bytes so that the data behind it is aligned.
  private static func header(_ tensors: [TensorToWrite], metadata: [String: String], url: URL) throws
    -> [UInt8]
  {
    var json: [UInt8] = [UInt8(ascii: "{")]
    func separate() { if json.count > 1 { json.append(UInt8(ascii: ",")) } }

    if !metadata.isEmpty {
      json += Array("\"__metadata__\":{".utf8)
      let sorted = metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
      for (index, (key, value)) in sorted.enumerated() {
        if index > 0 { json.append(UInt8(ascii: ",")) }
        appendString(key, to: &json)
        json.append(UInt8(ascii: ":"))
        appendString(value, to: &json)
      }
      json.append(UInt8(ascii: "}"))
    }
    var offset = 0
    var names: Set<String> = ["__metadata__"]
    for tensor in tensors {
      guard names.insert(tensor.name).inserted else {
        throw FormatError(
          .mismatch, in: url, "two tensors would be written as \(quoted(tensor.name))",
          remedy: "Give every tensor its own name")
      }
      guard let count = tensor.byteCount,
        case (let end, let overflow) = offset.addingReportingOverflow(count), !overflow
      else {
        throw FormatError(
          .mismatch, in: url,
          "the tensor \(quoted(tensor.name)) has the shape \(tensor.shape), which is not a size",
          remedy: "Check the shape")
      }
      separate()
      appendString(tensor.name, to: &json)
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      json += Array(
        ":{\"dtype\":\"\(tensor.type.rawValue)\",\"shape\":[\(shape)],\"data_offsets\":[\(offset),\(end)]}"
          .utf8)
      offset = end
    }
    json.append(UInt8(ascii: "}"))
    json += Array(repeating: UInt8(ascii: " "), count: (8 - json.count % 8) % 8)
    guard json.count <= SafetensorsFile.maximumHeaderSize else {
      throw FormatError(
        .mismatch, in: url,
        "the header would take \(json.count) bytes, more than the \(SafetensorsFile.maximumHeaderSize) of the format",
        remedy: "Write fewer tensors a file")
    }
    return json
  }

  /// A JSON string as serde_json writes it: only what must be escaped is.
  private static func appendString(_ text: String, to json: inout [UInt8]) {
    json.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""): json += Array("\\\"".utf8)
      case UInt8(ascii: "\\"): json += Array("\\\\".utf8)
      case 0x08: json += Array("\\b".utf8)
      case 0x09: json += Array("\\t".utf8)
      case 0x0A: json += Array("\\n".utf8)
      case 0x0C: json += Array("\\f".utf8)
      case 0x0D: json += Array("\\r".utf8)
      case 0..<0x20:
        let digits = String(byte, radix: 16)
        json += Array("\\u\(String(repeating: "0", count: 4 - digits.count))\(digits)".utf8)
      default: json.append(byte)
      }
    }
    json.append(UInt8(ascii: "\""))
  }
}
