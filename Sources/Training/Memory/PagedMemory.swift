import Files
import Foundation
import Torch

/// Zeroed memory behind which there is a file: the operating system writes what is not in use to the disk when memory runs short,
/// and reads it again when it is touched. For optimizer states, which are needed once a step (Dettmers et al. 2023,
/// arXiv:2305.14314, section 3: paged optimizers), and for inputs of layers that wait for the backward pass.
///
/// The file has no name, and goes with the last tensor over it.
final class PagedMemory {
  private let pages: Pages
  private var used = 0

  /// Tensors begin where vectors of the processor do.
  private static let alignment = 64

  /// Makes the file, with room for tensors of `sizes` bytes.
  ///
  /// - Throws: `FileError` when `folder` cannot be written to or its disk has no room.
  init(in folder: String, sizes: [Int]) throws {
    let url = URL(fileURLWithPath: folder, isDirectory: true)
    do { try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true) } catch {
      throw FileError(
        .inputOutput(errno: EIO), in: url, "cannot create the folder: \(error.localizedDescription)",
        remedy:
          "Name an `output_dir` that can be written to, or leave out what puts memory there: an `optim` that is paged, "
          + "`offload_optimizer`, `activation_offloading`")
    }
    pages = try Pages(in: url, size: sizes.reduce(0) { $0 + Self.aligned($1) })
  }

  private static func aligned(_ size: Int) -> Int { (size + alignment - 1) / alignment * alignment }

  /// A tensor of zeros on the CPU.
  func zeros(_ shape: [Int], dtype: DType) throws -> Tensor {
    let size = shape.reduce(dtype.byteCount, *)
    precondition(used + size <= pages.bytes.count, "more was asked for than there is room for")
    defer { used += Self.aligned(size) }
    guard size > 0 else { return try .zeros(shape, dtype: dtype) }
    let bytes = UnsafeRawBufferPointer(rebasing: pages.bytes[used..<used + size])
    return try Tensor(wrapping: bytes, shape: shape, dtype: dtype, owner: pages)
  }

  /// The mapping, kept alive by the tensors.
  private final class Pages {
    let bytes: UnsafeRawBufferPointer

    init(in folder: URL, size: Int) throws {
      guard size > 0 else {
        bytes = UnsafeRawBufferPointer(start: nil, count: 0)
        return
      }
      let url = folder.appendingPathComponent(".pages-\(UUID().uuidString)")
      let descriptor = open(url.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
      guard descriptor >= 0 else { throw FileError(errno: errno, in: url, "create a file for memory") }
      defer { close(descriptor) }
      unlink(url.path)
      // Room on the disk is taken now: a write to a page that has none would end the process.
      try Self.reserve(descriptor, size, url)
      guard let address = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0),
        address != MAP_FAILED
      else { throw FileError(errno: errno, in: url, "map a file as memory") }
      bytes = UnsafeRawBufferPointer(start: address, count: size)
    }

    private static func reserve(_ descriptor: Int32, _ size: Int, _ url: URL) throws {
      #if canImport(Darwin)
        var store = fstore_t(
          fst_flags: UInt32(F_ALLOCATEALL), fst_posmode: F_PEOFPOSMODE, fst_offset: 0,
          fst_length: off_t(size), fst_bytesalloc: 0)
        guard fcntl(descriptor, F_PREALLOCATE, &store) == 0, ftruncate(descriptor, off_t(size)) == 0 else {
          throw FileError(errno: errno, in: url, "take \(size) bytes of the disk for memory")
        }
      #else
        let failure = posix_fallocate(descriptor, 0, off_t(size))
        guard failure == 0 else {
          throw FileError(errno: failure, in: url, "take \(size) bytes of the disk for memory")
        }
      #endif
    }

    deinit {
      if let address = bytes.baseAddress {
        munmap(UnsafeMutableRawPointer(mutating: address), bytes.count)
      }
    }
  }
}
