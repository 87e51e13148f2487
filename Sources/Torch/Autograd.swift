import CTorch

extension Tensor {
  public var requiresGradient: Bool { ct_requires_gradient(handle) }

  public func setRequiresGradient(_ requires: Bool) throws {
    try checkedStatus("requires_grad") { ct_set_requires_gradient(handle, requires) }
  }

  /// What ``backward(_:)`` has accumulated here; nil before.
  public var gradient: Tensor? { ct_gradient(handle).map(Tensor.init(owning:)) }

  public func setGradient(_ gradient: Tensor?) throws {
    try checkedStatus("set gradient") { ct_set_gradient(handle, gradient?.handle) }
  }

  /// The same elements, outside the graph.
  public func detached() throws -> Tensor {
    try Tensor.checked("detach", self) { ct_detach(handle) }
  }

  /// Adds the gradient of this tensor to every leaf that needs one. `gradient` is needed unless this is a scalar.
  public func backward(_ gradient: Tensor? = nil) throws {
    try checkedStatus("backward") { ct_backward(handle, gradient?.handle) }
  }
}

/// Runs `body` without recording what gradients need.
public func withoutGradient<Result>(_ body: () throws -> Result) rethrows -> Result {
  let before = ct_gradient_enabled()
  ct_set_gradient_enabled(false)
  defer { ct_set_gradient_enabled(before) }
  return try body()
}

/// Whether operations on this thread record what gradients need.
public var gradientIsRecorded: Bool { ct_gradient_enabled() }

/// Runs `body` on `inputs` without keeping what it computes, and again when the gradient is wanted, with the same
/// random numbers: memory for the price of a second forward pass (Chen et al. 2016, arXiv:1604.06174).
///
/// Parameters that `body` uses get their gradients as usual. Inputs none of which requires a gradient make the second
/// run impossible; `body` then simply runs.
///
/// - Parameter keep: makes the copy of an input that is kept in its place until the second run, in memory of another kind; it is taken from
///   there to the input's device. Without it the inputs are kept as they are.
public func checkpointed(
  _ inputs: [Tensor], keep: ((Tensor) throws -> Tensor)? = nil, _ body: @escaping ([Tensor]) throws -> Tensor
) throws -> Tensor {
  guard gradientIsRecorded, inputs.contains(where: \.requiresGradient) else { return try body(inputs) }
  let closure = TensorClosure { [try body($0)] }
  let kept = try keep.map { keep in try withoutGradient { try inputs.map { try keep($0.detached()) } } }
  let result = Tensor.withHandles(inputs) { handles, count in
    func checkpoint(_ kept: UnsafePointer<OpaquePointer>?) -> OpaquePointer? {
      ct_checkpoint(
        handles, count, kept, closure.retainedContext(), TensorClosure.call, TensorClosure.release)
    }
    return kept.map { Tensor.withHandles($0) { handles, _ in checkpoint(handles) } } ?? checkpoint(nil)
  }
  guard let result else { throw TorchError.last("checkpoint", inputs) }
  return Tensor(owning: result)
}

/// `output`, as a node of the graph whose gradient with respect to `inputs` is what `backward` makes of the gradient
/// of the output: one tensor per input.
public func withCustomGradient(
  _ output: Tensor, inputs: [Tensor], backward: @escaping (Tensor) throws -> [Tensor]
) throws -> Tensor {
  let closure = TensorClosure { try backward($0[0]) }
  let result = Tensor.withHandles(inputs) { handles, count in
    ct_custom_function(
      output.handle, handles, count, closure.retainedContext(), TensorClosure.call, TensorClosure.release)
  }
  guard let result else { throw TorchError.last("custom function", inputs) }
  return Tensor(owning: result)
}

/// A Swift closure in the form that the C interface takes.
private final class TensorClosure {
  let body: ([Tensor]) throws -> [Tensor]

  init(_ body: @escaping ([Tensor]) throws -> [Tensor]) {
    self.body = body
  }

  func retainedContext() -> UnsafeMutableRawPointer { Unmanaged.passRetained(self).toOpaque() }

  static let release: @convention(c) (UnsafeMutableRawPointer) -> Void = {
    Unmanaged<TensorClosure>.fromOpaque($0).release()
  }

  static let call: CTCallback = { context, arguments, count, results, resultCount in
    let closure = Unmanaged<TensorClosure>.fromOpaque(context).takeUnretainedValue()
    let tensors = (0..<Int(count)).map { index in
      ct_retain(arguments[index])
      return Tensor(owning: arguments[index])
    }
    do {
      let values = try closure.body(tensors)
      guard values.count == Int(resultCount) else {
        throw TorchError(
          operation: "custom function",
          message: "its backward gave \(values.count) gradients for \(resultCount) inputs; give one for each")
      }
      for (index, value) in values.enumerated() {
        ct_retain(value.handle)
        results[index] = value.handle
      }
      return 0
    } catch {
      ct_set_callback_error("\(error)")
      return 1
    }
  }
}
