import JSON
import Models
import NeuralNetworks

extension LoRAConfig {
  /// `layer_replication`: pairs of the first layer and the one behind the last.
  static func layerReplication(_ fields: AdapterFields) throws -> [Range<Int>]? {
    let key = "layer_replication"
    guard let stored = fields.values[key], !stored.isNull, stored != [] else { return nil }
    let pairs = stored.arrayValue?.map { pair in pair.arrayValue?.compactMap(\.intValue) }
    return try (pairs ?? [nil]).map { pair in
      guard let pair, pair.count == 2, pair[0] >= 0, pair[0] < pair[1], pair[1] <= 1000 else {
        throw fields.invalid(
          key, remedy: "write pairs of the first layer and the one behind the last, such as [[0, 4], [2, 5]]")
      }
      return pair[0]..<pair[1]
    }
  }
}

/// The model's layers in another arrangement while the adapter is at work (`layer_replication`): ranges of its own layers,
/// one behind the other. Copies share their parameters; adapters are each's own.
final class LayerReplicationPart: AdapterPart {
  private let model: any LayerArranging
  /// The arrangement that is not in use now.
  private var other: LayerArrangement
  private var isInserted = false

  /// - Throws: ``AdapterError`` for layers that the model does not have, and for models that cannot be arranged anew.
  init(_ model: any PretrainedModel, _ ranges: [Range<Int>]) throws {
    guard let arranging = model.backbone as? any LayerArranging else {
      throw AdapterError(
        "`layer_replication` cannot be used with a \(model.typeName), whose layers have fixed places.")
    }
    if let wrong = ranges.first(where: { $0.upperBound > model.layerCount }) {
      throw AdapterError(
        "`layer_replication` names [\(wrong.lowerBound), \(wrong.upperBound)], and this \(model.typeName) has the layers 0 to "
          + "\(model.layerCount - 1): a range ends with the layer behind its last, at most \(model.layerCount)."
      )
    }
    self.model = arranging
    other = arranging.arrangement(of: ranges.flatMap { $0 })
  }

  var parameters: [(key: String, parameter: Parameter)] { [] }

  func insert() { exchange(unless: isInserted) }
  func remove() { exchange(unless: !isInserted) }
  func merge() { insert() }
  func unmerge() { remove() }

  private func exchange(unless isDone: Bool) {
    guard !isDone else { return }
    other = model.exchangeLayers(other)
    isInserted.toggle()
  }
}
