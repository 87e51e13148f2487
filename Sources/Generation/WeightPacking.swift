import Models
import NeuralNetworks
import Torch

/// Packs a model's weights while it generates, a part at each step: every token costs a reading of all weights, which takes less time in
/// fewer bytes, and an answer of a few tokens does not wait for the packing of all of them.
///
/// The copies take three quarters of the weights' memory beside them, so that nothing is packed where memory is scarce.
package struct WeightPacking {
  private var waiting: ArraySlice<any PackableWeight>
  /// Bytes of weights that one step packs.
  private let bytesPerStep: Int

  /// Steps after which all is packed: the first answers' tokens cost a little more each.
  package static let steps = 32
  /// How much more memory must be free than the copies take.
  private static let spareMemory = 2

  package init(of model: any CausalLanguageModel, availableMemory: Int? = HostMemory.available) {
    let weights = PackedMatrix.isSupported && model.device.kind == .cpu ? model.packableWeights : []
    let bytes = weights.reduce(0) { $0 + $1.byteCount }
    let hasRoom = availableMemory.map { $0 / Self.spareMemory > bytes / 4 * 3 } ?? false
    waiting = hasRoom ? weights[...] : []
    bytesPerStep = bytes / Self.steps
  }

  package var isDone: Bool { waiting.isEmpty }

  /// Packs the next weights; those that became more than a plain weight since are left out.
  package mutating func step() throws {
    var packed = 0
    while packed <= bytesPerStep, let weight = waiting.popFirst() {
      guard let plain = weight.plain, plain.packed == nil, plain.weight.dtype == .bfloat16 else { continue }
      packed += plain.weight.byteCount
      if let matrix = try PackedMatrix(plain.weight) { weight.pack(matrix) }
    }
  }
}

extension PackableWeight {
  fileprivate var byteCount: Int { plain.map { $0.weight.dtype == .bfloat16 ? $0.weight.byteCount : 0 } ?? 0 }
}
