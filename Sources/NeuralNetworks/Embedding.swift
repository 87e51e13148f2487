import Torch

/// A table of vectors, one per token.
public final class Embedding: Module {
  public var weight: Parameter  // [vocabulary, width]

  /// The row of the token that pads, which Hugging Face's models print; nothing is padded here.
  public let paddingIndex: Int?

  /// The active adapters, innermost first.
  public var adapters: [any EmbeddingAdapter] = []

  public init(weight: Parameter, paddingIndex: Int? = nil) {
    self.weight = weight
    self.paddingIndex = paddingIndex
  }

  public convenience init(_ count: Int, _ width: Int, paddingIndex: Int? = nil) throws {
    self.init(weight: try Parameter(shape: [count, width]), paddingIndex: paddingIndex)
  }

  /// int64 tokens `[T]` → `[T, width]`.
  public func callAsFunction(_ tokens: Tensor) throws -> Tensor {
    try adapters.reduce(try weight.value.embedding(tokens)) { output, adapter in
      try adapter.forward(tokens, output: output)
    }
  }

  public override var detail: String {
    "\(weight.shape[0]), \(weight.shape[1])" + (paddingIndex.map { ", padding_idx=\($0)" } ?? "")
  }
}

/// Something trainable behind a frozen table.
public protocol EmbeddingAdapter: AnyObject {
  /// Tokens `[T]` and what the table and the adapters within gave for them, `[T, width]`.
  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor
}
