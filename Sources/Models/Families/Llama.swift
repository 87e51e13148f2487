/// Llama (Touvron et al. 2023, arXiv:2302.13971) and all that share its shape: Llama 2, 3, 3.1 and 3.2, SmolLM and SmolLM2.
extension ModelFamily {
  static let llama = decoder(
    modelType: "llama", className: "Llama",
    gguf: GGUFArchitecture(name: "llama", interleavesRotaryPairs: true)
  ) { decoder, source in
    let attentionBias = try source.bool("attention_bias", default: false)
    decoder.queryKeyValueBias = attentionBias
    decoder.outputBias = attentionBias
    decoder.mlpBias = try source.bool("mlp_bias", default: false)
  }
}
