import Foundation

/// The text of a file as UTF-8, a chunk at a time, whatever encoding the file is in.
final class TextSource {
  let path: String
  /// The chunk at hand. `position` is how far the reader has come in it.
  private(set) var buffer: [UInt8] = []
  var position = 0

  private let file: ByteFile
  private let decoder: TextDecoder
  private var atEnd = false

  private static let chunk = 256 << 10

  init(_ path: String, encoding: TextEncoding, invalidBytes: TextDecoder.InvalidBytes) throws {
    self.path = path
    file = try ByteFile(path)
    decoder = try TextDecoder(encoding, invalidBytes: invalidBytes)
  }

  /// How many bytes were replaced by U+FFFD so far.
  var replacements: Int { decoder.replacements }

  /// Replaces the chunk at hand by the next one; `false` at the end of the file.
  ///
  /// - Parameter location: where the reader is, for the error about an invalid sequence.
  func refill(at location: @autoclosure () -> DataError.Location) throws -> Bool {
    buffer.removeAll(keepingCapacity: true)
    position = 0
    while buffer.isEmpty {
      // The end comes once, but an error that waits behind it has still to be thrown.
      if atEnd && !decoder.hasFailed { return false }
      let bytes = atEnd ? [] : try file.read(upTo: Self.chunk)
      atEnd = atEnd || bytes.isEmpty
      do {
        try bytes.withUnsafeBytes { try decoder.decode($0, isLast: bytes.isEmpty, into: &buffer) }
      } catch let invalid as TextDecoder.InvalidSequence {
        throw DataError(
          invalid.isTruncated
            ? "\(invalid.description), read as \(decoder.encoding)"
            : "\(invalid.description) are no \(decoder.encoding) text", at: location(),
          remedy: "Name the file's real encoding (--encoding), or have invalid bytes replaced by U+FFFD"
            + " (--invalid-bytes replace)")
      }
    }
    return true
  }
}
