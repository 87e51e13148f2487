import Foundation
import OrderedCollections
import Torch

extension PEFTModel {
  /// Writes an adapter whose start took something out of the base (PiSSA, OLoRA) as a plain LoRA on the untouched base:
  /// A' = [A | A₀], B' = [B | −B₀], of twice the rank.
  ///
  /// Under LoftQ that is what training changed, without the error of the quantization: on the untouched base the start is that
  /// base itself.
  ///
  /// PEFT does the same when `save_pretrained` is given `path_initial_model_for_weight_conversion`; here the start is known.
  ///
  /// - Throws: ``AdapterError`` for adapters that are plain already, and those of other methods.
  public func savePlainLoRA(_ name: String, to directory: URL) throws {
    let entry = try entry(name)
    guard var configuration = entry.configuration as? LoRAConfig, configuration.initLoRAWeights.changesBase,
      let adapter = entry.adapter as? ComposedAdapter
    else {
      throw AdapterError(
        "The adapter `\(name)` works on the untouched base as it is; only starts that take something out of it (pissa, olora, loftq) "
          + "need a conversion.")
    }
    var doubled: [String: Tensor] = [:]
    var kept: OrderedDictionary<String, Double> = [:]
    var keptAlphas: OrderedDictionary<String, Double> = [:]
    for part in adapter.parts {
      switch part {
      case let part as LinearPart:
        guard let lora = (part.change as? DoRALinear)?.lora ?? part.change as? LoRALinear else { continue }
        let (a, b) = try withoutGradient { try lora.learnedFactors() }
        doubled["\(AdapterTensor.prefix)\(part.path).lora_A.weight"] = a
        doubled["\(AdapterTensor.prefix)\(part.path).lora_B.weight"] = b
      case let part as EmbeddingPart:
        // Embeddings start plainly.
        kept[part.path] = Double(try configuration.rank(part.path))
        keptAlphas[part.path] = try configuration.alpha(part.path)
      default: continue
      }
    }
    // The scale stays: alpha / r, or alpha / √r.
    let factor = configuration.useRSLoRA ? 2.0.squareRoot() : 2
    configuration.r *= 2
    configuration.loraAlpha *= factor
    configuration.rankPattern = kept.merging(configuration.rankPattern.mapValues { $0 * 2 }) { first, _ in
      first
    }
    configuration.alphaPattern = keptAlphas.merging(
      configuration.alphaPattern.mapValues { $0 * factor }
    ) { first, _ in first }
    configuration.initLoRAWeights = .kaiming
    configuration.loftQConfig = nil
    try PEFTModel.write(
      configuration,
      storedTensors(entry).map { ($0.name, try doubled[$0.name] ?? $0.value()) }, labels: labels,
      to: directory)
  }
}
