import Torch

// Starts at the base model: B is zero.

extension LoRAInitialization {
  /// A uniform as PyTorch's linear layers, B zero: PEFT's `true`.
  public static let kaiming = LoRAInitialization(true) { target in
    let bound = 1 / Double(target.layer.inFeatures).squareRoot()
    return LoRAStart(
      a: try .uniform(target.shapeOfA, low: -bound, high: bound, device: target.device),
      b: try .zeros(target.shapeOfB, device: target.device))
  }

  /// A normal with deviation 1 / r, B zero: `"gaussian"`.
  public static let gaussian = LoRAInitialization("gaussian") { target in
    LoRAStart(
      a: try .normal(target.shapeOfA, standardDeviation: 1 / Double(target.rank), device: target.device),
      b: try .zeros(target.shapeOfB, device: target.device))
  }

  /// Both random, so that the adapter does something at once: `false`. For tests.
  public static let random = LoRAInitialization(false) { target in
    let (inBound, outBound) = (
      1 / Double(target.layer.inFeatures).squareRoot(), 1 / Double(target.rank).squareRoot()
    )
    return LoRAStart(
      a: try .uniform(target.shapeOfA, low: -inBound, high: inBound, device: target.device),
      b: try .uniform(target.shapeOfB, low: -outBound, high: outBound, device: target.device))
  }

  static let kaimingEntry = Entry(kaiming, "A is Kaiming-uniform and B is 0")
  static let gaussianEntry = Entry(gaussian, "A is normal and B is 0")
  static let randomEntry = Entry(random, "both are random, for tests")
}
