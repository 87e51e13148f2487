import Torch

/// How the elements of a stored tensor are encoded.
public enum StoredType: Hashable, Sendable {
  /// One of the engine's element types: the bytes are the tensor.
  case dense(DType)
  /// Packed blocks of GGML: several elements share scales.
  case blocks(GGMLType)
  /// A type of the safetensors format that the engine does not compute with. The bytes can be read as they are.
  case other(SafetensorsType)
}

extension StoredType: CustomStringConvertible {
  /// The name that the file's format gives the type.
  public var description: String {
    switch self {
    case .dense(let type): type.rawValue
    case .blocks(let type): type.description
    case .other(let type): type.rawValue
    }
  }
}
