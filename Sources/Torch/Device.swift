import CTorch

/// Where a tensor lives and is computed.
public struct Device: Sendable, Hashable, CustomStringConvertible {
  public enum Kind: Sendable, Hashable { case cpu, cuda, mps, meta }

  public let kind: Kind
  /// Which of several; nil is the current one.
  public let index: Int?

  public init(_ kind: Kind, index: Int? = nil) {
    self.kind = kind
    self.index = index
  }

  public static let cpu = Device(.cpu)
  public static let cuda = Device(.cuda, index: 0)
  /// Holds shapes and types but no elements.
  public static let meta = Device(.meta)

  /// The device that `--device` names: `cpu`, `cuda`, `cuda:1`, `mps`.
  public init(parsing text: String) throws {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let kinds: [String: Kind] = ["cpu": .cpu, "cuda": .cuda, "mps": .mps]
    let index = parts.count == 2 ? Int(parts[1]) : nil
    guard let kind = parts.first.flatMap({ kinds[String($0)] }), parts.count == 1 || (index ?? -1) >= 0,
      parts.count <= 2
    else {
      throw TorchError(
        operation: "device", message: "`\(text)` names no device; write cpu, cuda, cuda:1 or mps")
    }
    self.init(kind, index: index ?? (kind == .cuda ? 0 : nil))
  }

  public var description: String {
    let name =
      switch kind {
      case .cpu: "cpu"
      case .cuda: "cuda"
      case .mps: "mps"
      case .meta: "meta"
      }
    return index.map { "\(name):\($0)" } ?? name
  }

  var engineValue: CTDevice {
    let type =
      switch kind {
      case .cpu: CT_CPU
      case .cuda: CT_CUDA
      case .mps: CT_MPS
      case .meta: CT_META
      }
    return CTDevice(type: type, index: Int32(index ?? -1))
  }

  init(engineValue: CTDevice) {
    let kind: Kind =
      switch engineValue.type {
      case CT_CUDA: .cuda
      case CT_MPS: .mps
      case CT_META: .meta
      default: .cpu
      }
    self.init(kind, index: engineValue.index >= 0 && kind == .cuda ? Int(engineValue.index) : nil)
  }
}
