import NeuralNetworks
import Torch

/// Something trainable behind one embedding that a change of its table can express.
protocol EmbeddingChange: EmbeddingAdapter {
  /// What training changes, by what follows the embedding's path in PEFT's files.
  var parameters: [(name: String, parameter: Parameter)] { get }

  /// What PEFT prints for the embedding; by default what the parameters tell.
  var printed: PrintedLayer { get }

  /// Whether dropout is in effect.
  var isTraining: Bool { get set }

  /// The table `[vocabulary, width]` in fp32 that gives what the embedding with this change does.
  func merged(_ table: Tensor) throws -> Tensor
}

extension EmbeddingChange {
  var printed: PrintedLayer { PrintedLayer("Embedding", parameters: parameters) }
  var isTraining: Bool {
    get { false }
    set {}
  }
}

/// An ``EmbeddingChange`` at its embedding.
final class EmbeddingPart: AdapterPart {
  let path: String
  let table: Embedding
  let change: any EmbeddingChange
  private var unmerged: Parameter?

  init(path: String, table: Embedding, change: any EmbeddingChange) {
    self.path = path
    self.table = table
    self.change = change
  }

  var parameters: [(key: String, parameter: Parameter)] {
    change.parameters.map { ("\(path).\($0.name)", $0.parameter) }
  }

  func printedLayer(at path: String) -> PrintedLayer? { path == self.path ? change.printed : nil }

  var isTraining: Bool {
    get { change.isTraining }
    set { change.isTraining = newValue }
  }

  func insert() { table.adapters.append(change) }
  func remove() { table.adapters.removeAll { $0 === change } }

  func merge() throws {
    try withoutGradient {
      let base = try table.dense()
      let merged = try change.merged(base.to(.float32))
      unmerged = table.weight
      table.weight = Parameter(try merged.to(base.dtype))
    }
  }

  func unmerge() {
    guard let base = unmerged else { return }
    table.weight = base
    unmerged = nil
  }
}
