import Foundation

/// A file opened for reading.
final class ByteFile {
  let path: String
  private let descriptor: Int32

  /// - Throws: ``DataError`` that names the file and what the system said.
  init(_ path: String) throws {
    self.path = path
    descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      let code = errno
      throw DataError(
        "cannot open the file: \(String(cString: strerror(code)))", at: .init(file: path),
        remedy: code == ENOENT ? "Check the path; it is relative to the working directory" : nil)
    }
    var status = stat()
    if fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFDIR {
      close(descriptor)
      throw DataError(
        "this is a directory, not a file", at: .init(file: path),
        remedy: "Name the data file in it")
    }
  }

  deinit { close(descriptor) }

  /// Reads on from where the last call stopped, or at `offset`; empty at the end of the file.
  func read(upTo count: Int, at offset: Int? = nil) throws -> [UInt8] {
    let descriptor = descriptor
    var code: Int32 = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
      filled = 0
      while filled < count {
        let room = UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[filled...])
        let got =
          offset.map { pread(descriptor, room.baseAddress, room.count, off_t($0 + filled)) }
          ?? Foundation.read(descriptor, room.baseAddress, room.count)
        if got < 0 {
          if errno == EINTR { continue }
          code = errno
          break
        }
        if got == 0 { break }
        filled += got
      }
    }
    guard code == 0 else {
      throw DataError("cannot read the file: \(String(cString: strerror(code)))", at: .init(file: path))
    }
    return bytes
  }
}
