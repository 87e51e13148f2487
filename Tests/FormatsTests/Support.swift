import Formats
import Foundation
import Testing

/// A fixture beside this file.
func fixture(_ name: String) -> URL {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("Fixtures").appendingPathComponent(name)
}

/// The error of `body`, which must be a `FormatError` that names `parts`.
@discardableResult
func expectFormatError(
  _ code: FormatError.Code, _ parts: String..., location: SourceLocation = #_sourceLocation,
  _ body: () throws -> Void
) -> FormatError? {
  do {
    try body()
    Issue.record("nothing was thrown", sourceLocation: location)
  } catch let error as FormatError {
    #expect(error.code == code, "\(error)", sourceLocation: location)
    for part in parts {
      #expect(error.description.contains(part), "\(error) lacks \(part)", sourceLocation: location)
    }
    #expect(!error.remedy.isEmpty, sourceLocation: location)
    return error
  } catch {
    Issue.record("\(error) is no FormatError", sourceLocation: location)
  }
  return nil
}

/// Compares every tensor with what the format's Python package reads, to the bit; any NaN equals any other.
func expectEqual(
  _ reader: any CheckpointReader, _ expected: any CheckpointReader,
  location: SourceLocation = #_sourceLocation
) throws {
  for name in expected.tensorNames {
    let found = try reader.storedTensor(name)
    let wanted = try expected.storedTensor(name)
    #expect(found.shape == wanted.shape, "\(name)", sourceLocation: location)
    let numbers = try found.floats()
    let references = try wanted.floats()
    #expect(numbers.count == references.count, "\(name)", sourceLocation: location)
    let difference = zip(numbers, references).enumerated().first { _, pair in
      pair.0.bitPattern != pair.1.bitPattern && !(pair.0.isNaN && pair.1.isNaN)
    }
    #expect(difference == nil, "\(name)", sourceLocation: location)
  }
}

/// SplitMix64: the same numbers in every run.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
