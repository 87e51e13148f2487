import CTorch

/// Copies between the host's memory and a GPU's that go on while the GPU computes.
///
/// For host tensors that ``Tensor/copiedToHost(waits:)`` made. The order of work on the GPU is kept without anyone waiting: what is stored
/// after a computation is what that gave, and what is fetched after a store is what was stored.
package final class CopyQueue {
  private let handle: OpaquePointer
  private let device: Device

  package init(_ device: Device) throws {
    guard let handle = ct_copy_queue(device.engineValue) else {
      throw TorchError.last("copies to \(device)", [])
    }
    self.handle = handle
    self.device = device
  }

  deinit { ct_copy_queue_free(handle) }

  /// Begins a copy on the device; use it, and let go of it, behind the next ``join()``.
  package func fetch(_ host: Tensor) throws -> Tensor {
    try Tensor.checked("fetch to \(device)", host) { ct_copy_queue_fetch(handle, host.handle) }
  }

  /// Begins to take `source` back into `host`, behind what the device has been told to compute; let go of `source` behind the next
  /// ``join()``.
  package func store(_ source: Tensor, into host: Tensor) throws {
    try host.checkedStatus("store from \(device)", source) {
      ct_copy_queue_store(handle, host.handle, source.handle)
    }
  }

  /// Lets what the device computes from now on begin behind the copies so far.
  package func join() throws {
    guard ct_copy_queue_join(handle) == 0 else { throw TorchError.last("wait for copies on \(device)", []) }
  }

  /// Waits until the copies so far are done, so that the processor may read what was stored.
  package func synchronize() throws {
    guard ct_copy_queue_synchronize(handle) == 0 else { throw TorchError.last("copies from \(device)", []) }
  }
}
