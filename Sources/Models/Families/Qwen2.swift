/// Qwen1.5, Qwen2 and Qwen2.5 (Yang et al. 2024, arXiv:2407.10671): Llama's shape with biases on query, key and value,
/// and in some sizes a sliding window in the upper layers.
extension ModelFamily {
  static let qwen2 = decoder(
    modelType: "qwen2", className: "Qwen2", gguf: GGUFArchitecture(name: "qwen2")
  ) { decoder, source in
    decoder.queryKeyValueBias = true
    decoder.slidingWindows = try slidingWindows(source, layerCount: decoder.layerCount)
  }

  /// `layer_types` when given, else a window from layer `max_window_layers` on.
  private static func slidingWindows(_ source: ModelConfiguration, layerCount: Int) throws -> [Int?] {
    guard try source.bool("use_sliding_window", default: false),
      source.json["sliding_window"]?.isNull == false
    else { return [] }
    let window = try source.integer("sliding_window", default: 4096)
    if let types = try source.strings("layer_types") {
      guard types.count == layerCount else {
        throw ModelError(
          "`layer_types` in \(source.source) names \(types.count) layers, `num_hidden_layers` \(layerCount).")
      }
      return try types.map { type in
        switch type {
        case "sliding_attention": return window
        case "full_attention": return nil
        default:
          throw ModelError(
            "`layer_types` in \(source.source) names `\(type)`; it can name full_attention and sliding_attention."
          )
        }
      }
    }
    let first = try source.integer("max_window_layers", default: 28, minimum: 0)
    return (0..<layerCount).map { $0 >= first ? window : nil }
  }
}
