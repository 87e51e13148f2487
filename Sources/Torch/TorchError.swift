import CTorch

/// The engine refused an operation, or a value does not fit it.
///
/// The description says what was attempted, on which shapes, and what the engine answered.
public struct TorchError: Error, CustomStringConvertible, Sendable {
  /// The operation, in the field's words: `matmul`, `load CUDA`.
  public let operation: String
  /// The tensors it was given, as `[512, 576] bfloat16 cpu`.
  public let operands: [String]
  /// The engine's own words, or ours.
  public let message: String

  public init(operation: String, operands: [String] = [], message: String) {
    self.operation = operation
    self.operands = operands
    self.message = message
  }

  public var description: String {
    let subject = operands.isEmpty ? "" : " of \(operands.joined(separator: " and "))"
    return "\(operation)\(subject) failed: \(message)"
  }

  /// What the engine said last on this thread.
  static func last(_ operation: String, _ operands: [Tensor]) -> TorchError {
    TorchError(
      operation: operation, operands: operands.map(\.summary),
      message: String(cString: ct_last_error()).trimmingSuffix("\n"))
  }
}

extension String {
  fileprivate func trimmingSuffix(_ suffix: Character) -> String {
    var text = self
    while text.last == suffix { text.removeLast() }
    return text
  }
}
