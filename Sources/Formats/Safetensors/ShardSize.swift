/// The largest size of a shard, written as transformers writes it: `"5GB"`, `"500MB"`, `"2GiB"` or plain bytes.
public struct ShardSize: Hashable, Sendable {
  public let byteCount: Int

  public init(byteCount: Int) { self.byteCount = byteCount }

  /// 50 GB, the default of transformers.
  public static let standard = ShardSize(byteCount: 50_000_000_000)

  /// Reads a size: a number, which may have a fraction, and a unit, `KB` to `TB` (decimal), `KiB` to `TiB` (binary), `B` or none.
  /// Nil when it is none, not positive, or too large to count.
  public init?(_ text: String) {
    let compact = text.filter { !$0.isWhitespace }
    let digits = compact.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
    let factor: Double
    switch compact.dropFirst(digits.count).uppercased() {
    case "", "B": factor = 1
    case "KB", "K": factor = 1e3
    case "MB", "M": factor = 1e6
    case "GB", "G": factor = 1e9
    case "TB", "T": factor = 1e12
    case "KIB": factor = 1024
    case "MIB": factor = 1_048_576
    case "GIB": factor = 1_073_741_824
    case "TIB": factor = 1_099_511_627_776
    default: return nil
    }
    guard let number = Double(digits), case let bytes = (number * factor).rounded(), bytes >= 1, bytes < 9e18
    else {
      return nil
    }
    byteCount = Int(bytes)
  }
}
