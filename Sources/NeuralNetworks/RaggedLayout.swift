import Torch

/// Where each sequence of a ragged batch lies: sequences stand behind one another in `[T, …]`, with no padding.
///
/// Layers work on all tokens alike; attention alone looks at the offsets.
public struct RaggedLayout {
  /// Sequence `i` has the tokens `offsets[i] ..< offsets[i + 1]`.
  public let offsets: [Int]
  /// The same as int32 `[N + 1]` in host memory, for kernels.
  public let offsetsTensor: Tensor
  /// Each token's position in its sequence, int64 `[T]`.
  public let positions: Tensor

  /// - Parameters:
  ///   - lengths: tokens of each sequence.
  ///   - starts: position of each sequence's first token, non-zero when earlier tokens are in a cache.
  public init(lengths: [Int], starts: [Int]? = nil, device: Device = .cpu) throws {
    offsets = lengths.reduce(into: [0]) { $0.append($0.last! + $1) }
    offsetsTensor = try Tensor(offsets.map(Int32.init))
    var positions: [Int64] = []
    positions.reserveCapacity(offsets.last!)
    for (index, length) in lengths.enumerated() {
      let start = starts?[index] ?? 0
      positions += (start..<start + length).map(Int64.init)
    }
    self.positions = try Tensor(positions, device: device)
  }

  /// With given positions, for instance of packed examples.
  public init(offsets: [Int], positions: [Int32], device: Device = .cpu) throws {
    self.offsets = offsets
    offsetsTensor = try Tensor(offsets.map(Int32.init))
    self.positions = try Tensor(positions.map(Int64.init), device: device)
  }

  /// With positions that are on their device already, int64 `[T]`.
  package init(offsets: [Int], positions: Tensor) throws {
    self.offsets = offsets
    offsetsTensor = try Tensor(offsets.map(Int32.init))
    self.positions = positions
  }

  public var sequenceCount: Int { offsets.count - 1 }
  public var tokenCount: Int { offsets.last! }
  public var sequences: [Range<Int>] { zip(offsets, offsets.dropFirst()).map { $0..<$1 } }
}
