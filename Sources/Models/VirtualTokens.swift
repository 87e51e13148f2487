import NeuralNetworks
import Torch

/// Tokens that stand for no text: vectors that a prompt method trains, and that a model reads before each sequence.
public struct VirtualTokens {
  /// What the model is given in the place of tokens.
  public enum Values {
    /// `[n, hidden]`, beside the embeddings of the sequence (Lester et al. 2021, arXiv:2104.08691).
    case embeddings(Tensor)
    /// Keys and values of each layer, `[n, kvHeads, headDim]`, which no position turns (Li & Liang 2021,
    /// arXiv:2101.00190).
    case keysAndValues([(keys: Tensor, values: Tensor)])
  }

  /// How many there are before each sequence, n.
  public let count: Int
  /// What they are now; the gradient flows through it.
  let values: () throws -> Values

  public init(count: Int, values: @escaping () throws -> Values) {
    self.count = count
    self.values = values
  }
}

/// A ragged batch with rows for virtual tokens before each sequence that begins in it.
struct WovenLayout {
  /// The layout of all rows. Virtual tokens have the positions 0 ..< n, and those of the sequence follow.
  let layout: RaggedLayout
  /// The batch's own layout with the positions that its tokens have behind the virtual ones.
  let tokenLayout: RaggedLayout
  /// For each row of ``layout``, where it is taken from: first the virtual tokens, behind them the batch's. int64.
  private let sources: Tensor
  /// The rows of the batch's tokens in ``layout``, int64 `[T]`.
  private let tokenRows: Tensor

  /// Nil when no sequence begins: all go on from what a cache holds of them.
  ///
  /// - Parameters:
  ///   - count: virtual tokens for each sequence.
  ///   - lengths: what is in the cache of each sequence; nil without a cache.
  init?(_ count: Int, before layout: RaggedLayout, lengths: [Int]?) throws {
    let begins = layout.sequences.enumerated().map { !$1.isEmpty && lengths?[$0] ?? 0 == 0 }
    guard count > 0, begins.contains(true) else { return nil }
    var offsets = [0]
    var (sources, tokenRows, shifts): ([Int64], [Int64], [Int64]) = ([], [], [])
    for (tokens, begins) in zip(layout.sequences, begins) {
      if begins { sources += (0..<count).map(Int64.init) }
      tokenRows += (sources.count..<sources.count + tokens.count).map(Int64.init)
      sources += tokens.map { Int64(count + $0) }
      // Where a cache is gone on from, its lengths have the virtual tokens in them.
      shifts += tokens.map { _ in begins ? Int64(count) : 0 }
      offsets.append(sources.count)
    }
    let device = layout.positions.device
    self.sources = try Tensor(sources, device: device)
    self.tokenRows = try Tensor(tokenRows, device: device)
    let positions = try layout.positions + Tensor(shifts, device: device)
    tokenLayout = try RaggedLayout(offsets: layout.offsets, positions: positions)
    let all = try Tensor.concatenated([.range(0..<count, device: device), positions])
    self.layout = try RaggedLayout(offsets: offsets, positions: all.selecting(self.sources))
  }

  /// `[n, …]` for the virtual tokens and `[T, …]` for the batch's → all rows of ``layout``.
  func weave(_ virtual: Tensor, _ tokens: Tensor) throws -> Tensor {
    try Tensor.concatenated([virtual, tokens]).selecting(sources)
  }

  /// The batch's own rows, `[T, …]`, of all.
  func tokens(of rows: Tensor) throws -> Tensor { try rows.selecting(tokenRows) }
}

/// The keys and values that stand before those of each sequence in one layer.
///
/// Attention is then the usual causal one over longer sequences: the rows of the prefix have queries of zero, whose results
/// are dropped.
struct KeyValuePrefix: AttentionRows {
  let keys: Tensor  // [n, kvHeads, headDim]
  let values: Tensor
  let woven: WovenLayout

  var layout: RaggedLayout { woven.layout }
  // What these are computed from must be gone back through once, not once for each layer.
  var tensors: [Tensor] { [keys, values] }

  func with(_ tensors: [Tensor]) -> KeyValuePrefix {
    KeyValuePrefix(keys: tensors[0], values: tensors[1], woven: woven)
  }

  func weave(fused tokens: Tensor) throws -> Tensor {
    let queryHeads = tokens.size(1) - 2 * keys.size(1)
    return try woven.weave(.concatenated([queries(queryHeads), keys, values], dimension: 1), tokens)
  }

  func weave(_ query: Tensor, _ key: Tensor, _ value: Tensor) throws -> (Tensor, Tensor, Tensor) {
    (
      try woven.weave(queries(query.size(1)), query), try woven.weave(keys, key),
      try woven.weave(values, value)
    )
  }

  func tokens(of rows: Tensor) throws -> Tensor { try woven.tokens(of: rows) }

  private func queries(_ heads: Int) throws -> Tensor {
    try .zeros([keys.size(0), heads, keys.size(2)], dtype: keys.dtype, device: keys.device)
  }
}
