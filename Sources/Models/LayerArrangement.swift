import JSON
import NeuralNetworks

/// A backbone whose layers can stand in another order, be left out, or be repeated, as `layer_replication` asks for.
public protocol LayerArranging: Backbone {
  /// For each layer in use, the one of the checkpoint that its parameters are from.
  var layerSources: [Int] { get }

  /// Layers like those in use at `sources`, in that order: they share the parameters and have adapters of their own.
  func arrangement(of sources: [Int]) -> LayerArrangement

  /// Puts an arrangement of this model to use.
  ///
  /// - Returns: the one that was.
  func exchangeLayers(_ other: LayerArrangement) -> LayerArrangement
}

/// The layers of a model, see ``LayerArranging``.
public struct LayerArrangement {
  let layers: [Module]
  let sources: [Int]
}

extension PretrainedModel {
  /// What `config.json` must say when layers are not those of the checkpoint: their number, and what it lists for each.
  func applyArrangement(to json: inout JSONValue) {
    guard let arranging = backbone as? any LayerArranging else { return }
    let sources = arranging.layerSources
    let count = json["num_hidden_layers"]?.intValue
    guard let count, sources != Array(0..<count) else { return }
    json["num_hidden_layers"] = .integer(sources.count)
    if let kinds = json["layer_types"]?.arrayValue, kinds.count == count {
      json["layer_types"] = .array(sources.map { kinds[$0] })
    }
  }
}
