import Foundation

/// The memory of the machine, or of the container that this process is in.
package enum HostMemory {
  /// Bytes that this process may take at most.
  package static var limit: Int {
    let physical = Int(ProcessInfo.processInfo.physicalMemory)
    return min(physical, containerLimit ?? physical)
  }

  /// Bytes that nobody uses, and files' pages that would be given back; nil where the system does not say (macOS).
  package static var available: Int? {
    guard
      let line = text("/proc/meminfo")?.split(separator: "\n").first(where: { $0.hasPrefix("MemAvailable:") }
      ),
      let kibibytes = line.split(separator: " ").dropFirst().first.flatMap({ Int($0) })
    else { return nil }
    let ofMachine = kibibytes * 1024
    guard let limit = containerLimit, let used = number("/sys/fs/cgroup/memory.current") else {
      return ofMachine
    }
    let files = text("/sys/fs/cgroup/memory.stat")?.split(separator: "\n").first { $0.hasPrefix("file ") }
    let reclaimable = files?.split(separator: " ").last.flatMap { Int($0) } ?? 0
    return min(ofMachine, max(0, limit - used + reclaimable))
  }

  /// Versions 2 and 1 of control groups; without a limit, the file of the first says `max`, that of the second an enormous number.
  private static var containerLimit: Int? {
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"].compactMap(number).min()
  }

  private static func number(_ path: String) -> Int? {
    text(path).flatMap { Int($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }

  private static func text(_ path: String) -> String? { try? String(contentsOfFile: path, encoding: .utf8) }
}
