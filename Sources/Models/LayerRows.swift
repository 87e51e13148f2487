import NeuralNetworks
import Torch

/// The rows that go through a model's layers: the batch's tokens, the virtual tokens of the sequences that begin with it, and once
/// what all its sequences begin with.
struct LayerRows {
  /// `[rows, hidden]`.
  let embeddings: Tensor
  /// The rows' positions to rotate by, and the sequences among them.
  let layout: RaggedLayout
  /// The sequences as attention reads them and a cache keeps them.
  let readLayout: RaggedLayout
  /// What attention reads in each layer, where that is not the rows themselves.
  let attended: (Int) -> (any AttentionRows)?
  /// The batch's own rows, `[T, …]`, of all.
  let tokens: (Tensor) throws -> Tensor
  /// The same of the rows that attention reads.
  let tokensRead: (Tensor) throws -> Tensor

  /// The rows of some of the batch's tokens.
  ///
  /// - Parameter tokens: int64 `[N]`.
  func of(_ tokens: Tensor) -> WantedRows {
    WantedRows(
      of: { try self.tokens($0).selecting(tokens) }, ofRead: { try self.tokensRead($0).selecting(tokens) })
  }

  /// - Parameters:
  ///   - embeddings: `[T, hidden]`, of the batch's tokens.
  ///   - sharesPrefix: whether what all sequences begin with may be computed once.
  init(_ input: ModelInput, embeddings: Tensor, virtualTokens: VirtualTokens?, sharesPrefix: Bool) throws {
    if let virtualTokens,
      let woven = try WovenLayout(virtualTokens.count, before: input.layout, lengths: input.cache?.lengths)
    {
      readLayout = woven.layout
      switch try virtualTokens.values() {
      case .embeddings(let vectors):
        self.embeddings = try woven.weave(vectors.to(embeddings.dtype), embeddings)
        layout = woven.layout
        attended = { _ in nil }
        tokens = woven.tokens(of:)
        tokensRead = woven.tokens(of:)
      case .keysAndValues(let layers):
        self.embeddings = embeddings
        layout = woven.tokenLayout
        let prefixes = try layers.map {
          KeyValuePrefix(keys: try $0.to(embeddings.dtype), values: try $1.to(embeddings.dtype), woven: woven)
        }
        attended = { prefixes[$0] }
        tokens = { $0 }
        tokensRead = woven.tokens(of:)
      }
      return
    }
    readLayout = input.layout
    tokensRead = { $0 }
    if sharesPrefix, input.sharedPrefix > 0, input.cache == nil {
      let shared = SharedPrefix(count: input.sharedPrefix, layout: input.layout)
      self.embeddings = try shared.tokens(of: embeddings)
      layout = try shared.rowLayout()
      attended = { _ in shared }
      tokens = { try shared.weave($0) }
    } else {
      self.embeddings = embeddings
      layout = input.layout
      attended = { _ in nil }
      tokens = { $0 }
    }
  }
}

/// What the last layer is to give, where that is not all of its rows: under causal attention nothing reads the others' states any
/// more, once it has their keys and values.
struct WantedRows {
  /// Of the rows of the layer.
  let of: (Tensor) throws -> Tensor
  /// Of those that attention reads.
  let ofRead: (Tensor) throws -> Tensor
}

/// The rows that attention reads in a layer, where they are more than those that go through the layer.
protocol AttentionRows {
  /// The sequences of the rows that are read.
  var layout: RaggedLayout { get }
  /// The tensors that a gradient flows through.
  var tensors: [Tensor] { get }
  /// The same with other tensors in their places.
  func with(_ tensors: [Tensor]) -> Self
  /// `[rows, heads + 2 · kvHeads, headDim]`, queries before keys before values → what is read.
  func weave(fused rows: Tensor) throws -> Tensor
  /// Query, key and value of each row, `[rows, heads, headDim]` → what is read.
  func weave(_ query: Tensor, _ key: Tensor, _ value: Tensor) throws -> (Tensor, Tensor, Tensor)
  /// The layer's rows of all that were read.
  func tokens(of rows: Tensor) throws -> Tensor
}

/// What all sequences of a batch begin with, such as a system prompt: computed once, and read by the attention of each.
///
/// Under causal attention the states of a prefix do not depend on what follows. The gradient of its rows is the sum over the
/// sequences.
struct SharedPrefix: AttentionRows {
  let count: Int
  /// The sequences, each with its copy of the prefix.
  let layout: RaggedLayout

  var tensors: [Tensor] { [] }
  func with(_ tensors: [Tensor]) -> SharedPrefix { self }

  /// The prefix, then the sequences' own rows, at the positions that they have in their sequences.
  func rowLayout() throws -> RaggedLayout {
    let offsets = layout.sequences.reduce(into: [0, count]) { $0.append($0.last! + $1.count - count) }
    return try RaggedLayout(offsets: offsets, positions: tokens(of: layout.positions))
  }

  /// `[rows, …]` → `[T, …]`, the prefix before each sequence.
  func weave(_ rows: Tensor) throws -> Tensor {
    try rows.repeatingPrefix(count, offsets: layout.offsetsTensor)
  }

  func weave(fused rows: Tensor) throws -> Tensor { try weave(rows) }

  func weave(_ query: Tensor, _ key: Tensor, _ value: Tensor) throws -> (Tensor, Tensor, Tensor) {
    (try weave(query), try weave(key), try weave(value))
  }

  func tokens(of rows: Tensor) throws -> Tensor {
    try rows.droppingRepeatedPrefix(count, offsets: layout.offsetsTensor)
  }
}
