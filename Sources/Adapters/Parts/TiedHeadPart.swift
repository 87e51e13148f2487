import NeuralNetworks
import Torch

/// The output embedding of a model that ties it to the input embedding, following a change of that one: it computes with the
/// same matrix, and merged they are one parameter again.
///
/// It comes behind the part of the input embedding.
final class TiedHeadPart: AdapterPart {
  /// A tensor that PEFT's files hold for the head as well, by what follows its path.
  typealias Copy = (name: String, shape: [Int], value: () throws -> Tensor)

  private let path: String
  private let head: Linear
  private let table: Embedding
  private let change: (any LinearChange)?
  private let copies: [Copy]
  private var displaced: (any WeightStorage)?

  /// - Parameters:
  ///   - change: the embedding's change as the head computes it; nil takes over whatever parameter the table has.
  ///   - copies: what the files hold at both ends.
  init(
    path: String, head: Linear, table: Embedding, change: (any LinearChange)?,
    copies: [Copy] = []
  ) {
    self.path = path
    self.head = head
    self.table = table
    self.change = change
    self.copies = copies
  }

  /// The input embedding's part has them.
  var parameters: [(key: String, parameter: Parameter)] { [] }

  var storedTensors: [AdapterTensor] { copies.map(stored) }

  private func stored(_ copy: Copy) -> AdapterTensor {
    let (key, value) = ("\(path).\(copy.name)", copy.value)
    return AdapterTensor(
      name: AdapterTensor.prefix + key, shape: copy.shape, value: value
    ) { found in
      let own = try value()
      guard try (found - own).absolute().max().item() <= 1e-6 * own.absolute().max().item() else {
        throw AdapterError(
          "`\(key)` is not what the input embedding has, although `ensure_weight_tying` is set. Save the adapter "
            + "again, or set ensure_weight_tying to false in its adapter_config.json.")
      }
    }
  }

  func insert() {
    if let change {
      head.adapters.append(change)
    } else {
      takeTable()
    }
  }

  func remove() {
    if let change { head.adapters.removeAll { $0 === change } }
    giveBack()
  }

  func merge() { takeTable() }
  func unmerge() { giveBack() }

  private func takeTable() {
    guard displaced == nil else { return }
    displaced = head.weight
    head.weight = DenseWeight(table.weight)
  }

  private func giveBack() {
    if let displaced { head.weight = displaced }
    displaced = nil
  }
}
