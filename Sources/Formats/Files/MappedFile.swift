import Foundation

/// A file mapped into memory: opening costs nothing, pages are read when they are touched, and several processes share
/// them. The mapping is private: a page that is written to becomes this process's own, and the file never changes.
///
/// The operating system answers a read of a mapped page that the file no longer has with SIGBUS, which no error handling
/// survives. That can happen only when somebody truncates the file *after* it was opened: everything that is read lies
/// within the size found at opening, and `checkUnchanged()`, which readers call before they hand out a tensor, turns an
/// earlier truncation into an error. A file replaced by `rename`, as everything in this package writes, is no danger: the
/// mapping keeps the old one.
public final class MappedFile: ByteOwner {
  public let url: URL
  private let descriptor: Int32
  // Private, unmapped only in deinit.
  nonisolated(unsafe) private let mapping: UnsafeRawBufferPointer

  /// Maps the regular file at `url`.
  ///
  /// - Throws: `FormatError` when the file is missing, a folder, a device, or cannot be opened or mapped.
  public init(_ url: URL) throws {
    self.url = url
    // O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever.
    descriptor = open(url.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw FormatError.system(errno, url, "open the file") }

    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let number = errno
      close(descriptor)
      throw FormatError.system(number, url, "read the size of the file")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      let kind = status.st_mode & S_IFMT == S_IFDIR ? "a folder" : "not a regular file"
      throw FormatError(.mismatch, in: url, "this is \(kind)", remedy: "Name a file of weights")
    }
    let size = Int(status.st_size)
    guard size > 0 else {
      mapping = UnsafeRawBufferPointer(start: nil, count: 0)  // mmap refuses empty files
      return
    }
    // Writable, so that an operation in place on a tensor over it copies the page instead of ending the process;
    // MAP_NORESERVE, because hardly a page ever is, and a file may be larger than the memory.
    let flags = MAP_PRIVATE | MAP_NORESERVE
    guard let address = mmap(nil, size, PROT_READ | PROT_WRITE, flags, descriptor, 0), address != MAP_FAILED
    else {
      let number = errno
      close(descriptor)
      throw FormatError.system(number, url, "map the file into memory")
    }
    mapping = UnsafeRawBufferPointer(start: address, count: size)
  }

  deinit {
    if let address = mapping.baseAddress {
      munmap(UnsafeMutableRawPointer(mutating: address), mapping.count)
    }
    close(descriptor)
  }

  var bytes: UnsafeRawBufferPointer { mapping }

  /// The size of the file in bytes, as it was at opening.
  public var count: Int { mapping.count }

  /// The whole file.
  public var view: ByteView { ByteView(self) }

  /// How a part of the file is going to be read.
  public enum Advice: Sendable {
    /// From front to back: read ahead, and forget what lies behind.
    case sequential
    /// Soon: start reading now, in the background.
    case willNeed
    /// Here and there: do not read ahead.
    case random
    /// Not soon: its pages may leave memory now, and are read again when they are needed. Only for parts that nobody
    /// has written to in memory, for that would be lost.
    case notNeeded
  }

  /// Tells the operating system how the file is going to be read. Only speed depends on it, so failures are ignored.
  public func advise(_ advice: Advice) {
    guard let address = mapping.baseAddress else { return }
    let flag: CInt
    switch advice {
    case .sequential: flag = MADV_SEQUENTIAL
    case .willNeed: flag = MADV_WILLNEED
    case .random: flag = MADV_RANDOM
    case .notNeeded: return release(UnsafeRawBufferPointer(mapping))
    }
    _ = madvise(UnsafeMutableRawPointer(mutating: address), mapping.count, flag)
  }

  func release(_ part: UnsafeRawBufferPointer) {
    guard let address = part.baseAddress else { return }
    let (page, start) = (UInt(sysconf(Int32(_SC_PAGESIZE))), UInt(bitPattern: address))
    // Whole pages: what shares one with other bytes may be in use.
    let first = (start + page - 1) / page * page
    let end = (start + UInt(part.count)) / page * page
    guard first < end else { return }
    _ = madvise(UnsafeMutableRawPointer(bitPattern: first), Int(end - first), MADV_DONTNEED)
  }

  /// Throws when the file has become shorter since it was opened, so that reading it would end the process.
  public func checkUnchanged() throws {
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw FormatError.system(errno, url, "read the size of the file")
    }
    guard Int(status.st_size) >= mapping.count else {
      throw FormatError.malformed(
        url, "the file has shrunk from \(mapping.count) to \(status.st_size) bytes while it was in use",
        remedy: "Do not write to a file of weights that is in use; download or export it again")
    }
  }
}
