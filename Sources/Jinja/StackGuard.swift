/// Refuses to recurse when too much of the thread's stack is in use.
///
/// Counting levels would not do: a level of an expression costs another amount in each build, and
/// the smallest stack of a thread (512 KB on macOS) is soon full. Addresses measure what is used.
struct StackGuard {
  private let start: UInt
  private let limit: UInt

  init(limit: Int) {
    self.limit = UInt(limit)
    start = Self.address()
  }

  func check() throws {
    // The stack grows downwards on every platform that Swift runs on.
    guard start &- Self.address() < limit || Self.address() > start else {
      throw TemplateError(.limit, "nested too deeply")
    }
  }

  @inline(never)
  private static func address() -> UInt {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 1) { UInt(bitPattern: $0.baseAddress) }
  }
}
