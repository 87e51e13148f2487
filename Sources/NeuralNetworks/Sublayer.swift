import Torch

/// Attention or the feed-forward part of a transformer's layer: what lies between two residual additions.
///
/// Every family's layers name theirs by this protocol, so that methods which work on whole sublayers need no names.
public protocol Sublayer: Module {
  var kind: SublayerKind { get }

  /// The active adapters, innermost first.
  var adapters: [any SublayerAdapter] { get set }
}

public enum SublayerKind: Sendable, Hashable {
  case attention, feedForward
}

/// Something trainable behind a frozen sublayer, or beside it.
public protocol SublayerAdapter: AnyObject {
  /// - Parameters:
  ///   - output: `[T, hidden]`, what the sublayer and the adapters within gave.
  ///   - input: `[T, hidden]`, what the sublayer read: the stream behind its norm, when the norm comes first.
  ///   - residual: `[T, hidden]`, the stream that the output will be added to.
  /// - Returns: `[T, hidden]`, in the output's place.
  func forward(output: Tensor, input: Tensor, residual: Tensor) throws -> Tensor
}

extension Sublayer {
  /// The output through the adapters; see ``SublayerAdapter/forward(output:input:residual:)``.
  public func adapted(_ output: Tensor, input: Tensor, residual: Tensor) throws -> Tensor {
    try adapters.reduce(output) { try $1.forward(output: $0, input: input, residual: residual) }
  }
}
