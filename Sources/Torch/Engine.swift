import CTorch

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// The loaded libtorch: versions, threads, devices, memory.
public enum Engine {
  /// The version whose headers Graft was compiled against.
  public static var compiledVersion: String { String(cString: ct_compiled_version()) }
  /// The version of the library that the loader found.
  public static var loadedVersion: String { String(cString: ct_loaded_version()) }
  /// How the loaded library was built, several lines.
  public static var buildConfiguration: String { String(cString: ct_build_configuration()) }
  /// The instruction set that its CPU paths use, for instance `AVX512`.
  public static var cpuCapability: String { String(cString: ct_cpu_capability()) }

  /// Threads that one operation on the CPU may use.
  public static var threadCount: Int {
    get { Int(ct_thread_count()) }
    set { ct_set_thread_count(Int32(newValue)) }
  }

  /// Tensors alive in this process.
  public static var liveTensorCount: Int { Int(ct_live_handle_count()) }

  /// CUDA devices that may be used; 0 until ``prepare(_:)`` has made one usable.
  public static var cudaDeviceCount: Int { Int(ct_cuda_device_count()) }

  /// Makes `device` usable: checks that the loaded library is the one that was compiled against, and loads CUDA.
  ///
  /// A program that uses a GPU calls this at its start: once the engine was asked about CUDA without it, which a backward pass on the
  /// processor does, too, it has none for the rest of the process.
  ///
  /// - Throws: ``TorchError`` when the versions differ or the device is not there.
  public static func prepare(_ device: Device = .cpu) throws {
    guard compiledVersion.hasPrefix(loadedVersion) else {
      throw TorchError(
        operation: "start",
        message: "Graft was compiled against libtorch \(compiledVersion), but \(loadedVersion) was loaded; "
          + "run `make engine build` again, or point GRAFT_TORCH at a libtorch \(compiledVersion)")
    }
    ct_keep_freed_memory()
    guard device.kind == .cuda else { return }
    guard ct_load_cuda() == 0 else { throw TorchError.last("use \(device)", []) }
    guard device.index ?? 0 < cudaDeviceCount else {
      throw TorchError(
        operation: "use \(device)",
        message:
          "this machine has \(cudaDeviceCount) CUDA device(s); name one from 0 to \(cudaDeviceCount - 1)")
    }
  }

  /// Waits for everything queued on CUDA devices.
  public static func synchronize() throws {
    guard ct_cuda_synchronize() == 0 else { throw TorchError.last("synchronize", []) }
  }

  /// Returns memory that the process holds but does not use to the system.
  public static func releaseFreedMemory() { ct_release_freed_memory() }
}

/// The generators behind dropout and initialisation.
public enum RandomState {
  /// Seeds the generators of all devices.
  public static func seed(_ seed: UInt64) throws {
    guard ct_seed(seed) == 0 else { throw TorchError.last("seed", []) }
  }

  /// The state of a device's generator, as bytes to be restored later.
  public static func capture(_ device: Device = .cpu) throws -> [UInt8] {
    guard let state = ct_random_state(device.engineValue) else { throw TorchError.last("random state", []) }
    return try Tensor(owning: state).array(of: UInt8.self)
  }

  /// Runs `body` with freshly seeded generators, and puts the generator of `device` back afterwards as it was.
  package static func withSeed<Result>(_ seed: UInt64, device: Device = .cpu, _ body: () throws -> Result)
    throws -> Result
  {
    let places = device.kind == .cpu ? [device] : [.cpu, device]
    let states = try places.map { try capture($0) }
    try RandomState.seed(seed)
    let result = Swift.Result { try body() }
    for (place, state) in zip(places, states) { try restore(state, device: place) }
    return try result.get()
  }

  public static func restore(_ state: [UInt8], device: Device = .cpu) throws {
    let tensor = try Tensor(state)
    guard ct_set_random_state(device.engineValue, tensor.handle) == 0 else {
      throw TorchError.last("restore random state", [tensor])
    }
  }
}
