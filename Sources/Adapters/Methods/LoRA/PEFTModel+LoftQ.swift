import Models
import NeuralNetworks
import Torch

extension PEFTModel {
  /// Starts a LoRA on a quantized base at what quantizing took away (LoftQ, Li et al. 2023, arXiv:2310.08659, one turn): PEFT's
  /// `replace_lora_weights_loftq`.
  ///
  /// With W out of `original` and Q the base's weight, B A is the product of rank r that is nearest to W − Q. The base stays as it
  /// is, so that the adapter is a plain LoRA for it. As in PEFT, the start is nearest to `original` where alpha / r is 1.
  ///
  /// - Parameters:
  ///   - name: the adapter's, which must be new: what it has learned is lost.
  ///   - original: the model before it was quantized.
  ///   - keeps: called after each layer with its path; false gives the layer its former start back. Nil keeps all.
  /// - Throws: ``AdapterError`` when a layer is not quantized, or `original` is another model or quantized in the same way.
  public func replaceLoRAWeightsLoftQ(
    _ name: String = "default", original: PretrainedSource, keeps: ((_ path: String) throws -> Bool)? = nil
  ) throws {
    for (path, layer, lora) in try linearLoRA(name) {
      guard let quantized = layer.weight as? any QuantizedWeight else {
        throw AdapterError(
          "The weight of \(path) is not quantized, so that LoftQ has nothing to make up for. Load the base with load_in_4bit or "
            + "load_in_8bit, or leave the layer out of target_modules.")
      }
      let weight = try original.tensor("\(path).weight", dtype: .float32)
      guard weight.shape == [layer.outFeatures, layer.inFeatures] else {
        throw AdapterError(
          "`\(path).weight` in \(original.url.path) is \(weight.shape), and the base's is [\(layer.outFeatures), "
            + "\(layer.inFeatures)]. Name the model that the base was quantized from.")
      }
      let target = LoRATarget(
        path: path, layer: layer, rank: lora.a.shape[0], scale: lora.scale, device: base.device)
      try target.requireRankWithinWeight("loftq")
      let (a, b) = try withoutGradient {
        try quantized.factors(ofRest: weight.to(device: base.device), rank: target.rank)
      }
      guard try a.absolute().max().item() > 0 else {
        throw AdapterError(
          "`\(path).weight` in \(original.url.path) is what the base holds: quantizing took nothing away. Name the model before it "
            + "was quantized.")
      }
      let before = (a: try lora.a.value.detached().copy(), b: try lora.b.value.detached().copy())
      try lora.a.value.copyInPlace(a)
      try lora.b.value.copyInPlace(b)
      if let keeps, try !keeps(path) {
        try lora.a.value.copyInPlace(before.a)
        try lora.b.value.copyInPlace(before.b)
      }
    }
  }

  /// The pairs of a plain LoRA on linear layers.
  private func linearLoRA(_ name: String) throws -> [(path: String, layer: Linear, lora: LoRALinear)] {
    let entry = try entry(name)
    guard let configuration = entry.configuration as? LoRAConfig,
      let adapter = entry.adapter as? ComposedAdapter,
      !configuration.useDoRA, !configuration.initLoRAWeights.changesBase
    else {
      throw AdapterError(
        "LoftQ on a base that is quantized already starts a plain LoRA, and the adapter `\(name)` is none: write `peft_method: "
          + "lora` with `init_lora_weights: true`, without `use_dora`.")
    }
    return adapter.parts.compactMap { part in
      guard let part = part as? LinearPart, let lora = part.change as? LoRALinear else { return nil }
      return (part.path, part.layer, lora)
    }
  }
}
