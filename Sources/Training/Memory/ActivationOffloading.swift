import Torch

/// Takes the inputs of checkpointed layers out of the device's memory until the backward pass has come to them: on the processor into pages
/// of a file, which the system writes to the disk when memory runs short, on a GPU into the processor's memory.
///
/// Of what a pass keeps, only one layer's activations are then on the device, however many layers there are.
struct ActivationOffloading {
  /// Where the file of the pages goes.
  let folder: String

  /// The copy of `input` that waits in its place.
  ///
  /// - Throws: `FileError` when the disk has no room, `TorchError` when the processor's memory has none.
  func keep(_ input: Tensor) throws -> Tensor {
    guard input.device.kind == .cpu else { return try input.copiedToHost(waits: false) }
    let copy = try PagedMemory(in: folder, sizes: [input.byteCount]).zeros(input.shape, dtype: input.dtype)
    try copy.copyInPlace(input)
    return copy
  }
}
