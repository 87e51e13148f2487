/// The element type of a tensor, named as PyTorch names it.
///
/// The raw value is the name used in safetensors headers.
public enum DType: String, Sendable, Hashable, CaseIterable, Codable {
  case float64 = "F64"
  case float32 = "F32"
  case float16 = "F16"
  case bfloat16 = "BF16"
  case float8E4M3 = "F8_E4M3"
  case float8E5M2 = "F8_E5M2"
  case int64 = "I64"
  case int32 = "I32"
  case int16 = "I16"
  case int8 = "I8"
  case uint64 = "U64"
  case uint32 = "U32"
  case uint16 = "U16"
  case uint8 = "U8"
  case bool = "BOOL"

  /// Bytes that one element takes.
  public var byteCount: Int {
    switch self {
    case .float64, .int64, .uint64: 8
    case .float32, .int32, .uint32: 4
    case .float16, .bfloat16, .int16, .uint16: 2
    case .float8E4M3, .float8E5M2, .int8, .uint8, .bool: 1
    }
  }

  /// Whether values of this type can carry a gradient.
  public var isFloatingPoint: Bool {
    switch self {
    case .float64, .float32, .float16, .bfloat16, .float8E4M3, .float8E5M2: true
    default: false
    }
  }

  /// The name in `config.json` (`torch_dtype`) and in PyTorch, without the `torch.` prefix.
  public var torchName: String {
    switch self {
    case .float64: "float64"
    case .float32: "float32"
    case .float16: "float16"
    case .bfloat16: "bfloat16"
    case .float8E4M3: "float8_e4m3fn"
    case .float8E5M2: "float8_e5m2"
    case .int64: "int64"
    case .int32: "int32"
    case .int16: "int16"
    case .int8: "int8"
    case .uint64: "uint64"
    case .uint32: "uint32"
    case .uint16: "uint16"
    case .uint8: "uint8"
    case .bool: "bool"
    }
  }

  /// The type that PyTorch calls `name`, with or without the `torch.` prefix; `fp32`, `bf16` and `fp16` are
  /// understood too. Nil when there is none.
  public init?(torchName name: String) {
    let bare = name.hasPrefix("torch.") ? String(name.dropFirst(6)) : name
    switch bare {
    case "fp32", "float": self = .float32
    case "bf16": self = .bfloat16
    case "fp16", "half": self = .float16
    default:
      guard let match = DType.allCases.first(where: { $0.torchName == bare }) else { return nil }
      self = match
    }
  }
}
