import Foundation

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

  /// What is resident now, in bytes; ``peak`` where the system does not say it in a file.
  public static var resident: Int {
    // Size, resident and shared pages.
    let fields = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8))?.split(separator: " ")
    guard let fields, fields.count > 1, let pages = Int(fields[1]) else { return peak }
    return pages * sysconf(Int32(_SC_PAGESIZE))
  }
}
