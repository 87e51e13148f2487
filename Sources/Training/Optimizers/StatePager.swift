import Torch

/// Brings optimizer states that lie in the host's memory to a GPU and back (paged optimizers: Dettmers et al. 2023, arXiv:2305.14314).
///
/// While one parameter is updated, the next one's state is on its way in and the one before's on its way out; what the device holds is the
/// state of two or three parameters, however many there are.
final class StatePager {
  private let queue: CopyQueue

  init(_ device: Device) throws {
    queue = try CopyQueue(device)
  }

  /// Calls `update` with each of the states on the device, in their order, and takes back what it made of them.
  ///
  /// The host's tensors are complete behind ``finish()``, or behind the next call.
  func forEach(_ states: [[Tensor]], _ update: (_ index: Int, _ state: [Tensor]) throws -> Void) throws {
    // The last thing done, also on an error: nothing that is still copied may be let go of before.
    var before: [Tensor] = []
    var current: [Tensor] = []
    var next = try states.first.map(fetch) ?? []
    defer { withExtendedLifetime((before, current, next)) { try? queue.join() } }
    for (index, host) in states.enumerated() {
      try queue.join()
      (before, current) = (current, next)
      next = index + 1 < states.count ? try fetch(states[index + 1]) : []
      try update(index, current)
      for (used, kept) in zip(current, host) { try queue.store(used, into: kept) }
    }
  }

  /// Waits until the host's tensors are what the updates made of them.
  func finish() throws { try queue.synchronize() }

  private func fetch(_ state: [Tensor]) throws -> [Tensor] { try state.map(queue.fetch) }
}
