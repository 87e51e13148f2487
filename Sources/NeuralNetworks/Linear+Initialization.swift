import Torch

extension Linear {
  /// A trainable fp32 layer that starts as PyTorch's do: weight and bias uniform within ±1 / √in.
  public static func initialized(_ inFeatures: Int, _ outFeatures: Int, device: Device = .cpu) throws
    -> Linear
  {
    let bound = 1 / Double(inFeatures).squareRoot()
    func parameter(_ shape: [Int]) throws -> Parameter {
      let parameter = Parameter(try .uniform(shape, low: -bound, high: bound, device: device))
      try parameter.setTrainable(true)
      return parameter
    }
    return Linear(
      weight: DenseWeight(try parameter([outFeatures, inFeatures])), bias: try parameter([outFeatures]))
  }
}

extension Embedding {
  /// A trainable fp32 table that starts as PyTorch's do: standard normal.
  public static func initialized(_ count: Int, _ width: Int, device: Device = .cpu) throws -> Embedding {
    let weight = Parameter(try .normal([count, width], device: device))
    try weight.setTrainable(true)
    return Embedding(weight: weight)
  }
}
