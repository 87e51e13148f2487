import Torch

/// The element type of a PyTorch storage.
struct TorchElement: Hashable {
  var stored: StoredType
  var byteCount: Int

  init(_ type: DType) {
    stored = .dense(type)
    byteCount = type.byteCount
  }

  init(_ type: SafetensorsType) {
    stored = type.stored
    byteCount = type.bitCount / 8
  }
}

/// What a global of a PyTorch checkpoint means. This list is all that is understood: a pickle that names anything else is refused,
/// because running what a pickle names is how a file takes over a computer.
enum TorchGlobal {
  case orderedDictionary
  case rebuildTensor
  case rebuildTensorV3
  case rebuildParameter
  case size
  case storage(TorchElement?)
  case type(TorchElement)
  case device
  case set

  init?(_ global: PickleGlobal) {
    switch (global.module, global.name) {
    case ("collections", "OrderedDict"): self = .orderedDictionary
    case ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_tensor"): self = .rebuildTensor
    case ("torch._utils", "_rebuild_tensor_v3"): self = .rebuildTensorV3
    case ("torch._utils", "_rebuild_parameter"), ("torch._utils", "_rebuild_parameter_with_state"):
      self = .rebuildParameter
    case ("torch", "Size"): self = .size
    case ("torch", "device"): self = .device
    case ("builtins", "set"), ("__builtin__", "set"): self = .set
    case ("torch", "UntypedStorage"), ("torch.storage", "UntypedStorage"),
      ("torch.storage", "_UntypedStorage"):
      self = .storage(nil)
    case ("torch", let name), ("torch.cuda", let name):
      if let type = Self.storages[name] {
        self = .storage(type)
      } else if global.module == "torch", let type = Self.element(named: name) {
        self = .type(type)
      } else {
        return nil
      }
    default: return nil
    }
  }

  private static let storages: [String: TorchElement] = [
    "DoubleStorage": .init(DType.float64), "FloatStorage": .init(DType.float32),
    "HalfStorage": .init(DType.float16),
    "BFloat16Storage": .init(DType.bfloat16), "LongStorage": .init(DType.int64),
    "IntStorage": .init(DType.int32),
    "ShortStorage": .init(DType.int16), "CharStorage": .init(DType.int8), "ByteStorage": .init(DType.uint8),
    "BoolStorage": .init(DType.bool), "ComplexFloatStorage": .init(SafetensorsType.complex64),
  ]

  private static func element(named name: String) -> TorchElement? {
    if let type = DType.allCases.first(where: { $0.torchName == name }) { return TorchElement(type) }
    return switch name {
    case "complex64": TorchElement(SafetensorsType.complex64)
    case "float8_e4m3fnuz": TorchElement(SafetensorsType.float8E4M3FNUZ)
    case "float8_e5m2fnuz": TorchElement(SafetensorsType.float8E5M2FNUZ)
    case "float8_e8m0fnu": TorchElement(SafetensorsType.float8E8M0)
    default: nil
    }
  }
}
