import CTorch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// Measures where the calling thread's time goes: in the engine's operations by name, and outside of them.
///
/// ```swift
/// let profiler = Profiler()
/// try profiler.measure { try step() }
/// let profile = try profiler.finish()
/// ```
///
/// One profiler measures at a time. On CUDA the times are those of starting the work, not of the device.
public final class Profiler {
  private let clock = ContinuousClock()
  private var wall = Duration.zero
  private var processorTime = 0.0
  private var stretches = 0

  public init() {}

  /// Adds the time that `body` takes to the profile.
  ///
  /// - Throws: what `body` throws; ``TorchError`` when another profiler measures.
  public func measure<Result>(_ body: () throws -> Result) throws -> Result {
    guard ct_profile_start() == 0 else { throw TorchError.last("profile", []) }
    let start = clock.now
    let startOfProcessor = Self.processorSeconds
    defer {
      wall += clock.now - start
      processorTime += Self.processorSeconds - startOfProcessor
      stretches += 1
      ct_profile_pause()
    }
    return try body()
  }

  /// What was measured since the last call of this function.
  public func finish() throws -> Profile {
    guard let text = ct_profile_take() else { throw TorchError.last("profile", []) }
    defer {
      free(text)
      (wall, processorTime, stretches) = (.zero, 0, 0)
    }
    let places = String(cString: text).split(separator: "\n").map { line in
      let fields = line.split(separator: "\t")
      return Profile.Place(
        path: fields[0].split(separator: ";").map(String.init), calls: Int(fields[1]) ?? 0,
        seconds: (Double(fields[2]) ?? 0) / 1e9)
    }
    return Profile(
      stretches: stretches, seconds: wall / .seconds(1), processorSeconds: processorTime, places: places)
  }

  /// Time of all threads of this process on processors.
  private static var processorSeconds: Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }
}

/// Where a stretch of code spent its time: what ``Profiler`` measured.
public struct Profile: Sendable {
  /// One operation, as called from one chain of others.
  public struct Place: Sendable {
    /// The names from the outermost operation to this one.
    public var path: [String]
    public var calls: Int
    /// Time in this operation and in none of those that it calls.
    public var seconds: Double
  }

  /// How often ``Profiler/measure(_:)`` was called.
  public var stretches: Int
  /// Time by the clock on the wall.
  public var seconds: Double
  /// Time of all threads on processors: less than ``seconds`` × threads by what they waited.
  public var processorSeconds: Double
  public var places: [Place]

  /// Time in no operation of the engine: that of the calling code itself.
  public var secondsOutside: Double { seconds - places.reduce(0) { $0 + $1.seconds } }

  /// One line for each place, `outer;…;inner microseconds`: what flame graphs are drawn from.
  public var foldedStacks: String {
    places.map { "\($0.path.joined(separator: ";")) \(Int($0.seconds * 1e6))\n" }.joined()
  }
}
