/// Which parameters weight decay applies to, as transformers' Trainer decides: not to biases and norms.
///
/// Scaling a bias or a norm's gain towards zero does not regularise, it only costs accuracy.
public enum WeightDecayRule {
  /// Whether a parameter decays.
  ///
  /// - Parameters:
  ///   - path: the parameter's path, such as `model.layers.0.input_layernorm.weight`.
  ///   - isInLayerNorm: whether it belongs to a LayerNorm, whatever its name.
  public static func applies(to path: String, isInLayerNorm: Bool = false) -> Bool {
    if isInLayerNorm { return false }
    let name = path.lowercased()
    if name.contains("bias") || name.contains("layernorm") || name.contains("rmsnorm") { return false }
    return !name.split(separator: ".").contains { $0 == "norm" || $0.hasSuffix("_norm") }
  }
}
