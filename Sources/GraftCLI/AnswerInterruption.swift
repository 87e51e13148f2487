import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ctrl-C while text is generated: it ends the answer, not the program. A second one in the same answer ends the program.
///
/// The handler does only what a signal handler may: it works on atomics, writes a constant text and calls `_exit`.
enum AnswerInterruption {
  /// Catches SIGINT from now on.
  static func install() {
    // The first use initialises a global, which must not happen inside of the handler.
    state.store(idle, ordering: .sequentiallyConsistent)
    var action = sigaction()
    #if canImport(Darwin)
      action.__sigaction_u.__sa_handler = handle
    #else
      action.__sigaction_handler.sa_handler = handle
    #endif
    // The line that the user is writing is still read.
    action.sa_flags = Int32(SA_RESTART)
    sigaction(SIGINT, &action, nil)
  }

  /// Begins an answer.
  static func begin() { state.store(answering, ordering: .sequentiallyConsistent) }

  /// Ends it; returns whether it was interrupted.
  @discardableResult static func end() -> Bool {
    state.exchange(idle, ordering: .sequentiallyConsistent) == interrupted
  }

  /// Whether Ctrl-C has come since the answer began.
  static var isRequested: Bool { state.load(ordering: .sequentiallyConsistent) == interrupted }
}

private let idle = 0
private let answering = 1
private let interrupted = 2

// Outside of the type: a C function can capture nothing, not even the type.
private let state = Atomic<Int>(0)
private let hint: StaticString = "\nCtrl-D or /exit leaves.\n"

private func handle(_ number: Int32) {
  switch state.load(ordering: .sequentiallyConsistent) {
  case 1: state.store(2, ordering: .sequentiallyConsistent)
  case 2: _exit(128 + number)
  default:
    // A handler must leave errno as the interrupted code had it.
    let saved = errno
    _ = write(2, hint.utf8Start, hint.utf8CodeUnitCount)
    errno = saved
  }
}
