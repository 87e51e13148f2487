import Torch

/// A table of vectors, one per token.
public final class Embedding: Module {
  /// Without elements, only a shape and a type, while ``quantizedTable`` holds them.
  public var weight: Parameter  // [vocabulary, width]

  /// The table in a quantized form, of which rows are decoded as they are looked up.
  ///
  /// A ``weight`` with elements, such as a trained one put in its place, takes precedence.
  public var quantizedTable: QuantizedMatrix?

  /// The row of the token that pads, which Hugging Face's models print; nothing is padded here.
  public let paddingIndex: Int?

  /// The table as it lies over its file, where it does.
  private var mapped: MappedTensor?

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
    try adapters.reduce(try rows(tokens)) { output, adapter in
      try adapter.forward(tokens, output: output)
    }
  }

  /// The table's own rows for int64 tokens `[T]`, `[T, width]`, without adapters.
  public func rows(_ tokens: Tensor) throws -> Tensor {
    defer { mapped?.release(held) }
    guard let quantizedTable, !weight.isLoaded else { return try weight.value.embedding(tokens) }
    return try quantizedTable.rows(tokens, dtype: weight.value.dtype)
  }

  /// Holds the table quantized, to be given out in `dtype`.
  public func setTable(_ table: QuantizedMatrix, dtype: DType) throws {
    weight.value = try Tensor.empty([table.rows, table.columns], dtype: dtype, device: .meta)
    quantizedTable = table
  }

  /// Says that the table lies over its file: after each look-up `release` gives its memory back, so that the rows that have been read do
  /// not become the whole table in time. That ends when the table is replaced or changed in place, which reading it again would undo.
  package func setMapped(release: @escaping @Sendable () -> Void) {
    mapped = MappedTensor(held, release: release)
  }

  /// Whether the table is still the one that lies over its file.
  package var isMapped: Bool { mapped?.isIntact(in: held) ?? false }

  private var held: Tensor {
    if let quantizedTable, !weight.isLoaded { return quantizedTable.codes }
    return weight.value
  }

  /// The table `[vocabulary, width]`, decoded when need be.
  public func dense() throws -> Tensor { try dense(weight) }

  /// The table that `weight`, which is or was this layer's, stands for.
  public func dense(_ weight: Parameter) throws -> Tensor {
    guard let quantizedTable, !weight.isLoaded else { return weight.value }
    return try quantizedTable.dequantized(weight.value.dtype)
  }

  /// Where the table is.
  public var device: Device { held.device }

  public override var detail: String {
    "\(weight.shape[0]), \(weight.shape[1])" + (paddingIndex.map { ", padding_idx=\($0)" } ?? "")
  }
}

/// Something trainable behind a frozen table.
public protocol EmbeddingAdapter: AnyObject {
  /// Tokens `[T]` and what the table and the adapters within gave for them, `[T, width]`.
  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor
}
