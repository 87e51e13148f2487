/// Memory that can be read for as long as this object lives and that nobody writes to.
protocol ByteOwner: AnyObject, Sendable {
  var bytes: UnsafeRawBufferPointer { get }

  /// Lets the pages of `part` leave memory, where they can be read again.
  func release(_ part: UnsafeRawBufferPointer)
}

/// A read-only window over a mapped file or a block of memory, which it keeps alive.
///
/// Slicing never copies. Reads outside of the window are impossible: ranges are checked, and a range that does not fit
/// gives nil rather than a trap, because ranges come from files.
public struct ByteView: Sendable {
  private let owner: any ByteOwner
  // The pointer is valid while `owner` lives and the memory behind it is immutable, so sharing it between threads is safe.
  private nonisolated(unsafe) let base: UnsafeRawBufferPointer

  init(_ owner: any ByteOwner) {
    self.owner = owner
    self.base = owner.bytes
  }

  private init(owner: any ByteOwner, base: UnsafeRawBufferPointer) {
    self.owner = owner
    self.base = base
  }

  /// A view over a copy of `bytes`.
  public init(copying bytes: UnsafeRawBufferPointer) {
    self.init(
      HeapBytes(count: bytes.count) { $0.copyMemory(from: bytes) })
  }

  /// The number of bytes in the window.
  public var count: Int { base.count }

  /// The part of this view that `range` names, counted from the beginning of the view; nil when it reaches outside.
  public func slice(_ range: Range<Int>) -> ByteView? {
    guard range.lowerBound >= 0, range.upperBound <= base.count else { return nil }
    return ByteView(owner: owner, base: UnsafeRawBufferPointer(rebasing: base[range]))
  }

  /// `count` bytes from `offset` on; nil when that reaches outside or overflows.
  public func slice(at offset: Int, count: Int) -> ByteView? {
    let (end, overflow) = offset.addingReportingOverflow(count)
    guard !overflow, offset >= 0, count >= 0 else { return nil }
    return slice(offset..<end)
  }

  /// The little-endian integer at `offset`; nil when it reaches outside. No alignment is needed.
  @inlinable
  public func load<T: FixedWidthInteger>(_ type: T.Type = T.self, at offset: Int) -> T? {
    withUnsafeBytes { bytes in
      guard offset >= 0, offset <= bytes.count, bytes.count - offset >= MemoryLayout<T>.size else {
        return nil
      }
      return T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
    }
  }

  /// Gives the bytes to `body`. The pointer must not leave it.
  @inlinable
  public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R {
    try withExtendedLifetime(lifetime) { try body(memory) }
  }

  /// Lets the pages leave memory that hold nothing but bytes of this window: those of a mapped file are read again when they are
  /// needed, memory of this process stays. Only for bytes that nobody has written to.
  public func releasePages() { owner.release(base) }

  @usableFromInline var lifetime: AnyObject { owner }
  @usableFromInline var memory: UnsafeRawBufferPointer { base }
}

/// A block of memory of this process, filled once.
final class HeapBytes: ByteOwner {
  // Written only before `init` returns.
  nonisolated(unsafe) private let storage: UnsafeMutableRawBufferPointer

  /// Allocates `count` bytes, aligned for every element type, and lets `fill` write all of them.
  init(count: Int, fill: (UnsafeMutableRawBufferPointer) throws -> Void) rethrows {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    // Not yet the property: an initializer that throws with all of them set runs `deinit`, too.
    do { try fill(memory) } catch {
      memory.deallocate()
      throw error
    }
    storage = memory
  }

  deinit { storage.deallocate() }

  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(storage) }

  /// There is nothing that it could be read from again.
  func release(_ part: UnsafeRawBufferPointer) {}
}
