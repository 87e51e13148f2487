import Foundation

/// Turns bytes in any encoding that `iconv` knows into UTF-8, a chunk at a time.
///
/// State is kept between chunks: a character may be cut in two, and encodings such as ISO-2022-JP shift.
/// A byte-order mark at the start is dropped.
package final class TextDecoder {
  /// Bytes that are no text in the encoding.
  package struct InvalidSequence: Error, Sendable {
    /// Position in the encoded input, from 0.
    package let byteOffset: Int
    /// The first bytes of the sequence, at most four.
    package let bytes: [UInt8]
    /// The text ends inside a character.
    package let isTruncated: Bool

    package var description: String {
      let hex = bytes.map { byte in
        (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }.joined(separator: " ")
      return isTruncated
        ? "the text ends inside a character at byte \(byteOffset) (\(hex))"
        : "bytes \(hex) at offset \(byteOffset)"
    }
  }

  /// What happens to bytes that are no text in the encoding.
  package enum InvalidBytes: Sendable {
    /// An error that names the offset.
    case fail
    /// U+FFFD for each byte that fits nowhere; counted in ``TextDecoder/replacements``.
    case replace
  }

  package let encoding: TextEncoding
  /// How many bytes were replaced by U+FFFD so far.
  package private(set) var replacements = 0

  private let converter: iconv_t
  private let invalidBytes: InvalidBytes
  private var pending: [UInt8] = []  // the start of a character whose rest is in the next chunk
  private var consumed = 0
  private var isAtStart = true
  private var failure: InvalidSequence?

  /// - Throws: ``DataError`` when `iconv` does not know the encoding.
  package init(_ encoding: TextEncoding, invalidBytes: InvalidBytes = .fail) throws {
    guard let converter = iconv_open("UTF-8", encoding.name), converter != Self.openFailure else {
      throw DataError(
        "the text encoding `\(encoding.name)` is not known to this system's iconv",
        remedy: "Name one that `iconv -l` lists, for instance UTF-8, GB18030, SHIFT_JIS or CP1252"
          + " (a minimal Linux image needs its gconv modules installed)")
    }
    self.encoding = encoding
    self.converter = converter
    self.invalidBytes = invalidBytes
  }

  deinit { iconv_close(converter) }

  // iconv_open reports failure as (iconv_t)-1.
  private static var openFailure: iconv_t? { iconv_t(bitPattern: -1) }

  /// Decodes a chunk and appends its UTF-8 to `output`.
  ///
  /// Everything before an invalid sequence is delivered first; the error follows on the next call. The
  /// reader has by then read all complete rows, so the error can name the row it is in.
  ///
  /// - Parameter isLast: no more chunks follow, so an unfinished character is an error.
  /// - Throws: ``InvalidSequence``, and goes on throwing it.
  package func decode(
    _ input: UnsafeRawBufferPointer, isLast: Bool, into output: inout [UInt8]
  ) throws(InvalidSequence) {
    if let failure { throw failure }
    let produced = output.count
    var bytes = pending
    bytes.append(contentsOf: input)
    pending = []
    convert(&bytes, isLast: isLast, into: &output)
    if isAtStart, output.count > produced {
      isAtStart = false
      if output[produced...].starts(with: [0xEF, 0xBB, 0xBF]) {
        output.removeSubrange(produced..<produced + 3)
      }
    }
    // Nothing to deliver first: say it now.
    if let failure, output.count == produced { throw failure }
  }

  /// Whether an error waits to be thrown by the next ``decode(_:isLast:into:)``.
  package var hasFailed: Bool { failure != nil }

  private func convert(_ bytes: inout [UInt8], isLast: Bool, into output: inout [UInt8]) {
    var position = 0
    var room = [CChar](repeating: 0, count: max(4096, bytes.count * 2))
    while true {
      let atEnd = position == bytes.count
      if atEnd && !isLast { break }
      var (left, roomLeft) = (bytes.count - position, room.count)
      var code: Int32 = 0
      bytes.withUnsafeMutableBytes { bytes in
        room.withUnsafeMutableBufferPointer { room in
          var destination = room.baseAddress
          if atEnd {
            // A stateful encoding may still have to say something.
            if iconv(converter, nil, nil, &destination, &roomLeft) == Self.failed { code = errno }
          } else {
            var source = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
              .advanced(by: position)
            if iconv(converter, &source, &left, &destination, &roomLeft) == Self.failed {
              code = errno
            }
          }
        }
      }
      output.append(
        contentsOf: room[..<(room.count - roomLeft)].lazy.map { UInt8(bitPattern: $0) })
      let used = bytes.count - position - left
      position += used
      consumed += used
      switch code {
      case 0:
        if atEnd { return }
      case E2BIG:
        continue
      case EINVAL where !isLast:
        pending = Array(bytes[position...])
        return
      default:  // EILSEQ, or EINVAL at the end: the input stops inside a character
        guard invalidBytes == .replace, position < bytes.count else {
          failure = InvalidSequence(
            byteOffset: consumed, bytes: Array(bytes[position...].prefix(4)),
            isTruncated: code == EINVAL)
          return
        }
        output.append(contentsOf: [0xEF, 0xBF, 0xBD])
        replacements += 1
        position += 1
        consumed += 1
      }
    }
  }

  private static let failed = -1  // (size_t)-1, which Swift imports as Int
}
