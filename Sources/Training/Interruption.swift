import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Ctrl-C in an orderly way: the first signal asks the run to save and stop, the second ends the process at once.
///
/// The handler does only what a signal handler may: it counts in an atomic, writes a constant text and calls `_exit`.
/// The trainer asks `isRequested` between steps.
public enum Interruption {
  /// Catches SIGINT and SIGTERM from now on.
  public static func install() {
    // The first use initialises a global, which must not happen inside of the handler.
    signals.store(0, ordering: .sequentiallyConsistent)
    lastSignal.store(0, ordering: .sequentiallyConsistent)
    setHandler(handleSignal)
  }

  /// Gives the signals back to the system, which ends the process at the next one.
  public static func uninstall() {
    signal(SIGINT, SIG_DFL)
    signal(SIGTERM, SIG_DFL)
  }

  /// Whether a signal has asked for the end since `install`.
  public static var isRequested: Bool { signals.load(ordering: .sequentiallyConsistent) > 0 }

  /// The exit code of a process that a signal ended, as shells count: 130 for Ctrl-C, 143 for SIGTERM.
  public static var exitCode: Int32 {
    let number = lastSignal.load(ordering: .sequentiallyConsistent)
    return 128 + Int32(number == 0 ? Int(SIGINT) : number)
  }

  private static func setHandler(_ handler: @escaping @convention(c) (Int32) -> Void) {
    var action = sigaction()
    #if canImport(Darwin)
      action.__sigaction_u.__sa_handler = handler
    #else
      action.__sigaction_handler.sa_handler = handler
    #endif
    // System calls that were under way go on, so that reading a file does not fail by Ctrl-C.
    action.sa_flags = Int32(SA_RESTART)
    sigaction(SIGINT, &action, nil)
    sigaction(SIGTERM, &action, nil)
  }
}

// Outside of the type: a C function can capture nothing, not even the type.
private let signals = Atomic<Int>(0)
private let lastSignal = Atomic<Int>(0)
private let message: StaticString =
  "\nStopping after this step and saving; press Ctrl-C again to stop at once and lose the steps since the last save.\n"

private func handleSignal(_ number: Int32) {
  lastSignal.store(Int(number), ordering: .sequentiallyConsistent)
  let earlier = signals.wrappingAdd(1, ordering: .sequentiallyConsistent).oldValue
  guard earlier == 0 else { _exit(128 + number) }
  // A handler must leave errno as the interrupted code had it.
  let saved = errno
  _ = write(2, message.utf8Start, message.utf8CodeUnitCount)
  errno = saved
}
