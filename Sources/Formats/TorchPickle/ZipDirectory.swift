import Foundation

/// The entries of a ZIP archive whose contents are stored uncompressed, as PyTorch writes them, with the 64-bit extensions.
///
/// Only the central directory and each entry's local header are read. Checksums are not verified: that would read all of
/// a file that is mapped so that it need not be read.
struct ZipDirectory {
  /// Entry names in the archive's order.
  let names: [String]
  private let entries: [String: ByteView]

  private static let endSize = 22
  private static let maximumComment = 65_535

  init(_ file: MappedFile) throws {
    let view = file.view
    let url = file.url
    func fail(_ problem: String) -> FormatError { .malformed(url, "the ZIP archive \(problem)") }
    func field<T: FixedWidthInteger>(_ type: T.Type, _ offset: Int) throws -> Int {
      guard let value = view.load(T.self, at: offset), let integer = Int(exactly: value) else {
        throw fail("is cut short or holds an impossible number at byte \(offset)")
      }
      return integer
    }

    // The end record is the last thing in the file but for a comment.
    let lowest = max(0, view.count - Self.endSize - Self.maximumComment)
    var end = view.count - Self.endSize
    while end >= lowest, view.load(UInt32.self, at: end) != 0x0605_4B50 { end -= 1 }
    guard end >= lowest else { throw fail("has no directory at its end; the file is cut short") }

    var count = try field(UInt16.self, end + 10)
    var size = try field(UInt32.self, end + 12)
    var start = try field(UInt32.self, end + 16)
    if count == 0xFFFF || size == 0xFFFF_FFFF || start == 0xFFFF_FFFF {
      guard end >= 20, view.load(UInt32.self, at: end - 20) == 0x0706_4B50 else {
        throw fail("has more entries than its directory can describe")
      }
      let wide = try field(UInt64.self, end - 20 + 8)
      guard wide <= view.count - 56, view.load(UInt32.self, at: wide) == 0x0606_4B50 else {
        throw fail("has no 64-bit directory where it says")
      }
      count = try field(UInt64.self, wide + 32)
      size = try field(UInt64.self, wide + 40)
      start = try field(UInt64.self, wide + 48)
    }
    guard let directory = view.slice(at: start, count: size), count <= directory.count / 46 else {
      throw fail(
        "has a directory of \(count) entries and \(size) bytes at \(start), which does not fit into the file")
    }

    var names: [String] = []
    var entries: [String: ByteView] = [:]
    var position = start
    for _ in 0..<count {
      guard try field(UInt32.self, position) == 0x0201_4B50 else { throw fail("has a damaged directory") }
      let flags = try field(UInt16.self, position + 8)
      let method = try field(UInt16.self, position + 10)
      var stored = try field(UInt32.self, position + 20)
      var plain = try field(UInt32.self, position + 24)
      let nameCount = try field(UInt16.self, position + 28)
      let extraCount = try field(UInt16.self, position + 30)
      let commentCount = try field(UInt16.self, position + 32)
      var header = try field(UInt32.self, position + 42)
      guard let nameBytes = view.slice(at: position + 46, count: nameCount),
        let name = nameBytes.withUnsafeBytes({
          String(validating: $0.bindMemory(to: UInt8.self), as: UTF8.self)
        })
      else { throw fail("has an entry whose name is not UTF-8") }

      // 64-bit extension: the fields that do not fit above, in this order.
      var extra = position + 46 + nameCount
      let extraEnd = extra + extraCount
      while extra + 4 <= extraEnd {
        let tag = try field(UInt16.self, extra)
        let next = extra + 4 + (try field(UInt16.self, extra + 2))
        if tag == 1 {
          var value = extra + 4
          func widen(_ field: inout Int) throws {
            guard field == 0xFFFF_FFFF else { return }
            guard value + 8 <= next, let wide = view.load(UInt64.self, at: value),
              let integer = Int(exactly: wide)
            else { throw fail("has a damaged 64-bit entry \(quoted(name))") }
            field = integer
            value += 8
          }
          try widen(&plain)
          try widen(&stored)
          try widen(&header)
        }
        extra = next
      }
      guard flags & 1 == 0 else {
        throw FormatError(
          .unsupported, in: url, "the entry \(quoted(name)) of the ZIP archive is encrypted",
          remedy: "Save the checkpoint again with torch.save")
      }
      guard method == 0, stored == plain else {
        throw FormatError(
          .unsupported, in: url, "the entry \(quoted(name)) of the ZIP archive is compressed",
          remedy:
            "PyTorch stores entries uncompressed: save the checkpoint again with torch.save, or unzip and zip it with `zip -0`"
        )
      }
      // The local header repeats the name, with an extra field of its own (PyTorch pads with it).
      guard header <= view.count, try field(UInt32.self, header) == 0x0403_4B50,
        case let contents = header + 30 + (try field(UInt16.self, header + 26))
          + (try field(UInt16.self, header + 28)),
        let bytes = view.slice(at: contents, count: plain)
      else { throw fail("has an entry \(quoted(name)) that does not fit into the file") }
      guard entries.updateValue(bytes, forKey: name) == nil else {
        throw fail("has two entries \(quoted(name))")
      }
      names.append(name)
      position = extraEnd + commentCount
    }
    self.names = names
    self.entries = entries
  }

  subscript(name: String) -> ByteView? { entries[name] }
}
