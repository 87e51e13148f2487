import Foundation
import Torch

/// Where the tests of whole models compute: the device that `GRAFT_TEST_DEVICE` names, such as `cuda`, or the processor.
public let testDevice: Device = {
  guard let name = ProcessInfo.processInfo.environment["GRAFT_TEST_DEVICE"] else { return .cpu }
  do {
    let device = try Device(parsing: name)
    try Engine.prepare(device)
    return device
  } catch {
    fatalError("GRAFT_TEST_DEVICE is `\(name)`: \(error)")
  }
}()

/// Whether two ways of computing the same numbers agree: to the bit on the processor, whose kernels sum in one order whatever lies beside,
/// and elsewhere `within` that much, relative to the larger of 1 and the number.
public func agree(_ found: [Float], _ expected: [Float], within tolerance: Float = 1e-5) -> Bool {
  guard testDevice != .cpu else { return found == expected }
  return found.count == expected.count
    && zip(found, expected).allSatisfy { abs($0 - $1) <= tolerance * max(1, abs($1)) }
}
