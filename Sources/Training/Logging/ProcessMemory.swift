#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// Memory of this process, as the system counts it.
public enum ProcessMemory {
  /// The most that was resident at any time, in bytes.
  public static var peak: Int {
    var usage = rusage()
    #if canImport(Glibc)
      // glibc imports the constant as an enumeration that its own function does not take.
      getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    #else
      getrusage(RUSAGE_SELF, &usage)
    #endif
    #if canImport(Darwin)
      return usage.ru_maxrss
    #else
      // Linux counts in KiB.
      return usage.ru_maxrss * 1024
    #endif
  }
}
