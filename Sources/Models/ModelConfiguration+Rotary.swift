import Foundation
import NeuralNetworks

extension ModelConfiguration {
  /// The rotary embedding that `rope_theta` and `rope_scaling`, or the newer `rope_parameters`, describe.
  ///
  /// - Throws: ``ModelError`` for a scaling that is unknown or lacks a value.
  func rotaryEmbedding(dimension: Int, context: Int, defaultBase: Double = 10_000, name: String) throws
    -> RotaryEmbedding
  {
    let parameters = try object("rope_parameters") ?? object("rope_scaling")
    let base =
      try parameters?.number("rope_theta", default: number("rope_theta", default: defaultBase))
      ?? number("rope_theta", default: defaultBase)
    guard base > 1 else { throw ModelError("`rope_theta` in \(source) is \(base); it must be above 1.") }
    guard dimension % 2 == 0, dimension >= 4 else {
      throw ModelError(
        "heads of \(dimension) features in \(source) cannot be rotated; an even number from 4 is wanted.")
    }
    let rotated = try parameters?.number("partial_rotary_factor", default: 1) ?? 1
    guard try rotated * number("partial_rotary_factor", default: 1) == 1 else {
      throw ModelError(
        "`partial_rotary_factor` in \(source) asks for heads that are rotated in part, which Graft does not have."
      )
    }
    let scaling = try parameters.map { try rotaryScaling($0, context: context) } ?? .none
    return RotaryEmbedding(dimension: dimension, base: base, context: context, scaling: scaling, name: name)
  }

  private func rotaryScaling(_ parameters: ModelConfiguration, context: Int) throws -> RotaryEmbedding.Scaling
  {
    let kind = try parameters.string("rope_type", default: parameters.string("type", default: "default"))
    func positive(_ key: String, default fallback: Double? = nil) throws -> Double {
      let value = try parameters.number(key, default: fallback)
      guard value > 0 else {
        throw ModelError("`\(key)` of \(parameters.source) is \(value); it must be above 0.")
      }
      return value
    }
    switch kind {
    case "default":
      return .none
    case "linear":
      return .linear(factor: try positive("factor"))
    case "dynamic":
      return .dynamic(factor: try positive("factor"))
    case "llama3":
      let (low, high) = (try positive("low_freq_factor"), try positive("high_freq_factor"))
      guard high > low else {
        throw ModelError(
          "`high_freq_factor` of \(parameters.source) is \(high); it must be above `low_freq_factor`, \(low)."
        )
      }
      return .llama3(
        factor: try positive("factor"), lowFrequencyFactor: low, highFrequencyFactor: high,
        originalContext: try parameters.integer("original_max_position_embeddings", default: context))
    case "yarn":
      let originalContext = try parameters.integer("original_max_position_embeddings", default: context)
      let factor = try positive("factor", default: Double(context) / Double(originalContext))
      func optional(_ key: String) throws -> Double? {
        parameters.json[key]?.isNull == false ? try parameters.number(key) : nil
      }
      var attentionFactor = try optional("attention_factor")
      if attentionFactor == nil, let scale = try optional("mscale"), scale != 0,
        let scaleAll = try optional("mscale_all_dim"), scaleAll != 0
      {
        func attention(_ scale: Double) -> Double { factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1 }
        attentionFactor = attention(scale) / attention(scaleAll)
      }
      func beta(_ key: String, _ fallback: Double) throws -> Double {
        let value = try parameters.number(key, default: fallback)
        guard value >= 0 else {
          throw ModelError("`\(key)` of \(parameters.source) is \(value); it must be above 0.")
        }
        // As in transformers, zero stands for not given.
        return value == 0 ? fallback : value
      }
      return .yarn(
        RotaryEmbedding.YaRN(
          factor: factor, originalContext: originalContext, attentionFactor: attentionFactor,
          betaFast: try beta("beta_fast", 32), betaSlow: try beta("beta_slow", 1),
          truncatesRange: try parameters.bool("truncate", default: true)))
    default:
      throw ModelError(
        "\(parameters.source) asks for the rope type `\(kind)`, which Graft does not have; it has default, linear, "
          + "dynamic, yarn and llama3.")
    }
  }
}
