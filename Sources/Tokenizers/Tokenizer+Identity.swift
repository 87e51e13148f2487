import Foundation

extension Tokenizer {
  /// A hash of the tokenizer's files, its chat template among them: the same for the same files on every machine.
  ///
  /// It names caches of tokens; it is no protection against someone who wants two tokenizers to look alike.
  public var identity: String {
    var hash = FNV1a()
    for (name, data) in files.contents.sorted(by: { $0.key < $1.key }) {
      hash.combine(name.utf8)
      // With its length, so that no file can end where another begins.
      hash.combine("\(data.count)".utf8)
      // Tens of megabytes: eight bytes at a time, not one.
      hash.combine("\(data.withUnsafeBytes { ByteHash.hash($0.bindMemory(to: UInt8.self)) })".utf8)
    }
    return hash.description
  }
}

/// The 64-bit FNV-1a hash (Fowler, Noll & Vo, RFC 9923).
package struct FNV1a: CustomStringConvertible {
  private var state: UInt64 = 0xcbf2_9ce4_8422_2325

  package init() {}

  package mutating func combine(_ bytes: some Sequence<UInt8>) {
    var state = state
    for byte in bytes { state = (state ^ UInt64(byte)) &* 0x100_0000_01b3 }
    self.state = state
  }

  /// 16 hexadecimal digits.
  package var description: String {
    let digits = String(state, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }
}
