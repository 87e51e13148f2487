import Foundation

/// A file that appears under its name only once it is complete and on the disk.
///
/// It is written beside its place, synchronised, and renamed; without ``commit()`` nothing is left of it and
/// what was there before stays.
final class DurableFile {
  let path: String
  private let temporary: String
  private var descriptor: Int32
  private var buffer: [UInt8] = []
  /// Bytes written so far.
  private(set) var count = 0

  private static let bufferSize = 1 << 20

  /// - Throws: ``DataError`` when no file can be made there.
  init(_ path: String) throws {
    self.path = path
    let url = URL(fileURLWithPath: path)
    let unique = "\(ProcessInfo.processInfo.processIdentifier)-\(UInt32.random(in: 0 ... .max))"
    temporary =
      url.deletingLastPathComponent()
      .appendingPathComponent(".\(url.lastPathComponent).\(unique).partial").path
    descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw failure("cannot create the file") }
  }

  deinit {
    guard descriptor >= 0 else { return }
    close(descriptor)
    unlink(temporary)
  }

  func write(_ bytes: some Sequence<UInt8>) throws {
    let before = buffer.count
    buffer.append(contentsOf: bytes)
    count += buffer.count - before
    if buffer.count >= Self.bufferSize { try flush() }
  }

  func write(_ bytes: UnsafeRawBufferPointer) throws {
    buffer.append(contentsOf: bytes)
    count += bytes.count
    if buffer.count >= Self.bufferSize { try flush() }
  }

  /// Writes over the beginning of the file.
  func overwriteStart(_ bytes: [UInt8]) throws {
    try flush()
    precondition(bytes.count <= count)
    try put(bytes) { pwrite(descriptor, $0.baseAddress, $0.count, off_t($1)) }
  }

  /// Puts the file in its place.
  func commit() throws {
    try flush()
    guard fsync(descriptor) == 0 else { throw failure("cannot write the file to the disk") }
    guard rename(temporary, path) == 0 else { throw failure("cannot rename the finished file") }
    close(descriptor)
    descriptor = -1
    // The rename itself has to reach the disk too. Some file systems cannot synchronise a folder; the
    // file is in its place all the same.
    let folder = open(URL(fileURLWithPath: path).deletingLastPathComponent().path, O_RDONLY | O_CLOEXEC)
    if folder >= 0 {
      fsync(folder)
      close(folder)
    }
  }

  private func flush() throws {
    try put(buffer) { bytes, _ in Foundation.write(descriptor, bytes.baseAddress, bytes.count) }
    buffer.removeAll(keepingCapacity: true)
  }

  private func put(_ bytes: [UInt8], with write: (UnsafeRawBufferPointer, Int) -> Int) throws {
    var code: Int32 = 0
    bytes.withUnsafeBytes { bytes in
      var written = 0
      while written < bytes.count {
        let got = write(UnsafeRawBufferPointer(rebasing: bytes[written...]), written)
        if got < 0 {
          if errno == EINTR { continue }
          code = errno
          return
        }
        written += got
      }
    }
    guard code == 0 else {
      errno = code
      throw failure("cannot write the file")
    }
  }

  private func failure(_ what: String) -> DataError {
    let code = errno
    let remedy: String? =
      switch code {
      case ENOSPC, EDQUOT: "Free some space, or write to another disk; nothing was overwritten"
      case ENOENT: "Make the folder first"
      case EACCES, EPERM, EROFS: "Choose a folder that you may write to"
      default: nil
      }
    return DataError("\(what): \(String(cString: strerror(code)))", at: .init(file: path), remedy: remedy)
  }
}
