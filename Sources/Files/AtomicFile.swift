import Foundation

/// A file that appears complete or not at all.
///
/// The bytes go to a temporary file in the same folder. `commit()` makes them durable (fsync), renames the temporary over
/// the target, which is atomic, and makes the rename durable (fsync of the folder). Until then an existing target is
/// untouched; without a commit the temporary is removed. A process that is killed leaves at most a temporary file, whose
/// name begins with a dot and contains `.tmp-`.
///
/// A process that exceeds its limit on file sizes gets SIGXFSZ, which ends it unless it is ignored; programs should
/// ignore it, as Python does, and then get an error here.
public final class AtomicFile {
  public let url: URL
  private let temporary: URL
  private var descriptor: Int32
  private var buffer: [UInt8] = []
  /// Bytes written so far.
  public private(set) var count = 0

  private static let bufferSize = 1 << 20

  /// Opens a temporary file beside `url`.
  ///
  /// - Parameter permissions: of the new file; nil takes over those of the file that is replaced, or 0644 less the umask.
  public init(_ url: URL, permissions: mode_t? = nil) throws {
    self.url = url
    let folder = url.deletingLastPathComponent()
    temporary = folder.appendingPathComponent(".\(url.lastPathComponent).\(temporarySuffix())")

    var status = stat()
    var mode: mode_t = 0o644
    var keepMode = permissions != nil
    if let permissions {
      mode = permissions
    } else if stat(url.path, &status) == 0 {
      guard status.st_mode & S_IFMT == S_IFREG else {
        throw FileError(
          .mismatch, in: url, "there is something here that is not a regular file",
          remedy: "Choose another name")
      }
      mode = status.st_mode & 0o777
      keepMode = true
    }
    descriptor = open(temporary.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw FileError(errno: errno, in: url, "create a temporary file beside it") }
    if keepMode { _ = fchmod(descriptor, mode) }  // not subject to the umask
  }

  deinit { discard() }

  /// Writes what `body` writes, or leaves everything as it was.
  public static func write<R>(_ url: URL, permissions: mode_t? = nil, _ body: (AtomicFile) throws -> R) throws
    -> R
  {
    let file = try AtomicFile(url, permissions: permissions)
    do {
      let result = try body(file)
      try file.commit()
      return result
    } catch {
      file.discard()
      throw error
    }
  }

  /// Replaces the file at `url` with `data`.
  public static func write(_ data: Data, to url: URL, permissions: mode_t? = nil) throws {
    try write(url, permissions: permissions) { file in try data.withUnsafeBytes { try file.write($0) } }
  }

  /// Appends bytes. Small pieces are collected, large ones go straight to the file.
  public func write(_ bytes: UnsafeRawBufferPointer) throws {
    precondition(descriptor >= 0, "write after commit or discard")
    count += bytes.count
    if buffer.count + bytes.count <= Self.bufferSize {
      buffer.append(contentsOf: bytes)
      return
    }
    try flush()
    if bytes.count >= Self.bufferSize { try writeThrough(bytes) } else { buffer.append(contentsOf: bytes) }
  }

  public func write(_ bytes: [UInt8]) throws { try bytes.withUnsafeBytes { try write($0) } }

  public func write(_ text: String) throws { try write(Array(text.utf8)) }

  /// Writes over the beginning of what was written, for headers that hold what is only known at the end.
  public func overwriteStart(_ bytes: [UInt8]) throws {
    precondition(bytes.count <= count, "the beginning is longer than the file")
    try flush()
    guard lseek(descriptor, 0, SEEK_SET) == 0 else {
      throw FileError(errno: errno, in: url, "go to the start of the file")
    }
    try bytes.withUnsafeBytes { try writeThrough($0) }
    guard lseek(descriptor, 0, SEEK_END) >= 0 else {
      throw FileError(errno: errno, in: url, "go to the end of the file")
    }
  }

  /// Makes the contents durable and puts the file in its place.
  public func commit() throws {
    try finish()
    try place()
  }

  /// Makes the contents durable but leaves the file aside. `place()` does the rest: with several files, all can be
  /// finished before the first one is put in its place.
  package func finish() throws {
    precondition(descriptor >= 0, "commit after commit or discard")
    do {
      try flush()
      guard fsync(descriptor) == 0 else { throw FileError(errno: errno, in: url, "write the file to disk") }
      let closing = descriptor
      descriptor = -1
      isFinished = true
      // NFS and quotas report a failed write as late as here.
      guard close(closing) == 0 else { throw FileError(errno: errno, in: url, "close the file") }
    } catch {
      discard()
      throw error
    }
  }

  /// Renames the finished file over the target.
  package func place() throws {
    precondition(isFinished, "place before finish")
    guard rename(temporary.path, url.path) == 0 else {
      let number = errno
      discard()
      throw FileError(errno: number, in: url, "put the new file in its place")
    }
    isFinished = false
    try synchronizeFolder(url.deletingLastPathComponent())
  }

  /// Removes the temporary file. Does nothing after `commit()`.
  public func discard() {
    if descriptor >= 0 {
      close(descriptor)
      descriptor = -1
      unlink(temporary.path)
    } else if isFinished {
      isFinished = false
      unlink(temporary.path)
    }
  }

  /// Written and closed, but not yet renamed.
  private var isFinished = false

  private func flush() throws {
    guard !buffer.isEmpty else { return }
    try buffer.withUnsafeBytes { try writeThrough($0) }
    buffer.removeAll(keepingCapacity: true)
  }

  private func writeThrough(_ bytes: UnsafeRawBufferPointer) throws {
    var rest = bytes
    while !rest.isEmpty {
      // Linux writes at most 2 GiB at a time, macOS refuses more.
      #if canImport(Darwin)
        let written = Darwin.write(descriptor, rest.baseAddress, min(rest.count, 1 << 30))
      #else
        let written = Glibc.write(descriptor, rest.baseAddress, min(rest.count, 1 << 30))
      #endif
      if written < 0 {
        if errno == EINTR { continue }
        throw FileError(errno: errno, in: url, "write the file")
      }
      rest = UnsafeRawBufferPointer(rebasing: rest[written...])
    }
  }
}

/// `tmp-` and something that no other process and no other call uses.
func temporarySuffix() -> String {
  "tmp-\(getpid())-\(String(UInt32.random(in: .min ... .max), radix: 36))"
}

/// Makes the entries of a folder (creations, renames, removals) durable.
package func synchronizeFolder(_ folder: URL) throws {
  let path = folder.path.isEmpty ? "." : folder.path
  let descriptor = open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else { throw FileError(errno: errno, in: folder, "open the folder") }
  defer { close(descriptor) }
  // EINVAL: some network file systems do not know fsync on folders and order renames themselves.
  guard fsync(descriptor) == 0 || errno == EINVAL else {
    throw FileError(errno: errno, in: folder, "write the folder to disk")
  }
}
