/// Many byte strings, one after another in one buffer: hundreds of thousands of tokens without an allocation
/// for each.
struct ByteStrings: Sendable {
  /// The bytes of all strings. What is appended here becomes the next string at `endString()`.
  var bytes: [UInt8] = []
  private var ends: [Int] = []

  var count: Int { ends.count }

  /// Makes a string of what was appended to `bytes` behind the last one.
  mutating func endString() { ends.append(bytes.count) }

  mutating func append(_ string: ArraySlice<UInt8>) {
    bytes += string
    endString()
  }

  /// Where a string lies in `bytes`.
  @inline(__always)
  func range(_ index: Int) -> Range<Int> {
    (index == 0 ? 0 : ends[index - 1])..<ends[index]
  }

  subscript(index: Int) -> String { String(decoding: bytes[range(index)], as: UTF8.self) }
}
