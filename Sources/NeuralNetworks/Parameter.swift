import Torch

/// A named weight of a model: one tensor that loading fills, training changes and adapters may stand in for.
///
/// A parameter is an object, so that tied weights are one parameter under two names.
public final class Parameter {
  /// The elements in use now.
  public var value: Tensor

  /// The elements as they lie over their file, where they do.
  private var mapped: MappedTensor?

  public init(_ value: Tensor) {
    self.value = value
  }

  /// A parameter that knows its shape and type but has no elements until a checkpoint fills it.
  public convenience init(shape: [Int], dtype: DType = .float32) throws {
    self.init(try Tensor.empty(shape, dtype: dtype, device: .meta))
  }

  public var shape: [Int] { value.shape }
  public var count: Int { value.count }

  /// Whether elements have been given.
  public var isLoaded: Bool { value.device.kind != .meta }

  /// Whether training changes it.
  public var isTrainable: Bool { value.requiresGradient }

  public func setTrainable(_ trainable: Bool) throws {
    try value.setRequiresGradient(trainable)
  }

  /// Says that the elements lie over their file, whose memory `release` gives back.
  package func setMapped(release: @escaping @Sendable () -> Void) {
    mapped = MappedTensor(value, release: release)
  }

  /// Puts other elements in place of these; the memory of a file that these lay over is given back.
  func replace(with other: Tensor) {
    let old = value
    value = other
    mapped?.release(old)
    mapped = nil
  }

  /// The elements in the type that `input` is computed in; the gradient flows through the conversion.
  public func value(like input: Tensor) throws -> Tensor {
    try value.to(input.dtype)
  }
}
