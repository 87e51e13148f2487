import Torch

/// A table of vectors, one per token.
public final class Embedding: Module {
  public var weight: Parameter  // [vocabulary, width]

  /// The active adapters, innermost first.
  public var adapters: [any EmbeddingAdapter] = []

  public init(weight: Parameter) {
    self.weight = weight
  }

  public convenience init(_ count: Int, _ width: Int) throws {
    self.init(weight: try Parameter(shape: [count, width]))
  }

  /// int64 tokens `[T]` → `[T, width]`.
  public func callAsFunction(_ tokens: Tensor) throws -> Tensor {
    try adapters.reduce(try weight.value.embedding(tokens)) { output, adapter in
      try adapter.forward(tokens, output: output)
    }
  }

  public override var detail: String { "\(weight.shape[0]), \(weight.shape[1])" }
}

/// Something trainable behind a frozen table.
public protocol EmbeddingAdapter: AnyObject {
  /// Tokens `[T]` and what the table and the adapters within gave for them, `[T, width]`.
  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor
}
