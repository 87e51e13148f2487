import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// Tokens whose vectors are trained while the rest of the table stays: `trainable_token_indices`.
public enum TrainableTokens: Sendable, Hashable {
  /// In the input embedding, and in the output embedding that is tied to it.
  case inputEmbedding([Int])
  /// By the end of the layer's name: `["embed_tokens": [3], "lm_head": [3]]`.
  case byLayer(OrderedDictionary<String, [Int]>)

  init?(_ fields: AdapterFields) throws {
    let key = "trainable_token_indices"
    switch fields.values[key] {
    case nil, .null: return nil
    case .object(let object):
      let layers = AdapterFields(object, source: "`\(key)` in \(fields.source)")
      self = .byLayer(
        try OrderedDictionary(
          uniqueKeysWithValues: object.keys.map { ($0, try layers.integers($0) ?? []) }))
    case _: self = .inputEmbedding(try fields.integers(key) ?? [])
    }
  }

  var asJSON: JSONValue {
    func list(_ indices: [Int]) -> JSONValue { .array(indices.map(JSONValue.integer)) }
    return switch self {
    case .inputEmbedding(let indices): list(indices)
    case .byLayer(let layers): .object(layers.mapValues(list))
    }
  }
}

extension TrainableTokens {
  /// The parts that train the tokens of `model`.
  ///
  /// - Parameter taken: paths that something else of the adapter trains.
  /// - Throws: ``AdapterError`` for layers and tokens that the model does not have.
  func parts(for model: any PretrainedModel, taken: Set<String>, ensureTying: Bool) throws
    -> [any AdapterPart]
  {
    let modules = model.namedModules().filter { !$0.path.isEmpty }
    var (input, output): ((path: String, tokens: [Int])?, (path: String, tokens: [Int])?)
    for (name, indices) in layers(of: model) {
      guard let (path, module) = modules.first(where: { $0.path == name || $0.path.hasSuffix("." + name) }),
        module === model.inputEmbedding || module === model.head
      else {
        throw AdapterError(
          "`trainable_token_indices` names `\(name)`, which is not an embedding of this \(model.typeName): those are "
            + modules.filter { $0.module === model.inputEmbedding || $0.module === model.head }
            .map { "`\($0.path)`" }.joined(separator: " and ") + ".")
      }
      guard !taken.contains(path) else {
        throw AdapterError(
          "`trainable_token_indices` and `target_modules` or `modules_to_save` both name `\(path)`; leave it to one of them."
        )
      }
      try check(indices, vocabulary: model.vocabularySize, at: name)
      if module === model.inputEmbedding { input = (path, indices) } else { output = (path, indices) }
    }

    var parts: [any AdapterPart] = []
    let head = modules.first { $0.module === model.head }
    if let input {
      let rows = try TokenRows(input.tokens, of: model.inputEmbedding.dense())
      parts.append(EmbeddingPart(path: input.path, table: model.inputEmbedding, change: TokenEmbedding(rows)))
      if model.tiesEmbeddings, output.map({ $0.tokens == input.tokens }) ?? true {
        parts.append(
          TiedHeadPart(
            path: head!.path, head: model.head, table: model.inputEmbedding,
            change: try TokenHead(rows)))
        return parts
      }
      guard output == nil || !model.tiesEmbeddings || !ensureTying else {
        throw AdapterError(
          "`ensure_weight_tying` asks for the same tokens at both embeddings, and `trainable_token_indices` names others for "
            + "`\(output!.path)`; name the same, or none for it.")
      }
    }
    if let output {
      let rows = try TokenRows(output.tokens, of: model.head.weight.dense())
      parts.append(
        LinearPart(
          path: output.path, layer: model.head, change: try TokenHead(rows, isOwner: true)))
    }
    return parts
  }

  private func layers(of model: any PretrainedModel) -> [(name: String, indices: [Int])] {
    switch self {
    case .byLayer(let layers): layers.map { ($0.key, $0.value) }
    case .inputEmbedding(let indices):
      model.namedModules().filter { $0.module === model.inputEmbedding }.map { ($0.path, indices) }
    }
  }

  private func check(_ indices: [Int], vocabulary: Int, at name: String) throws {
    guard !indices.isEmpty else {
      throw AdapterError("`trainable_token_indices` names no token for `\(name)`; name some, or remove it.")
    }
    if let wrong = indices.first(where: { !(0..<vocabulary).contains($0) }) {
      throw AdapterError(
        "`trainable_token_indices` names the token \(wrong), and the vocabulary of `\(name)` has the tokens 0 to "
          + "\(vocabulary - 1). Add tokens to the tokenizer and the model first, or name others.")
    }
    if let twice = indices.first(where: { index in indices.count(where: { $0 == index }) > 1 }) {
      throw AdapterError("`trainable_token_indices` names the token \(twice) twice for `\(name)`.")
    }
  }
}

/// Rows that stand in for some of a table's.
private final class TokenRows {
  static let name = "token_adapter.trainable_tokens_delta"

  /// The rows themselves, despite PEFT's name: `[n, width]`.
  let values: Parameter
  /// Where they are in the table, int64 `[n]`.
  let indices: Tensor
  /// For each row of the table its row in ``values``, or n.
  let places: Tensor  // int64 [vocabulary]

  init(_ tokens: [Int], of table: Tensor) throws {
    let device = table.device.kind == .meta ? Device.cpu : table.device
    indices = try Tensor(tokens.map(Int64.init), device: device)
    var places = [Int64](repeating: Int64(tokens.count), count: table.size(0))
    for (row, token) in tokens.enumerated() { places[token] = Int64(row) }
    self.places = try Tensor(places, device: device)
    let width = table.size(1)
    values = Parameter(
      table.device.kind == .meta
        ? try .empty([tokens.count, width], device: .meta)
        : try table.detached().selecting(indices).to(.float32))
    try values.setTrainable(true)
  }

  var count: Int { values.shape[0] }

  /// `table` in fp32 with the rows in it.
  func merged(_ table: Tensor) throws -> Tensor {
    let copy = try table.copy()
    try copy.replaceInPlace(indices, with: values.value.detached())
    return copy
  }
}

/// Trained rows behind the input embedding.
private final class TokenEmbedding: EmbeddingChange {
  private let rows: TokenRows

  init(_ rows: TokenRows) {
    self.rows = rows
  }

  var parameters: [(name: String, parameter: Parameter)] { [(TokenRows.name, rows.values)] }

  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor {
    let places = try rows.places.selecting(tokens)  // [T]
    let none = try Tensor.zeros([1, rows.values.shape[1]], device: output.device)
    let own = try Tensor.concatenated([rows.values.value, none]).embedding(places)  // [T, width]
    return try own.to(output.dtype).selected(
      where: places.less(Double(rows.count)).unsqueezed(1), else: output)
  }

  func merged(_ table: Tensor) throws -> Tensor { try rows.merged(table) }
}

/// The same rows at the output embedding: logits of their tokens.
private final class TokenHead: LinearChange {
  private let rows: TokenRows
  private let isOwner: Bool
  /// For each token, its column in the logits with the new ones behind them.
  private let columns: Tensor  // int64 [vocabulary]

  /// - Parameter isOwner: whether the rows are this layer's; those of a tied one are the input embedding's.
  init(_ rows: TokenRows, isOwner: Bool = false) throws {
    self.rows = rows
    self.isOwner = isOwner
    let places = try rows.places.integers()
    columns = try Tensor(
      places.enumerated().map { Int64($1 < rows.count ? places.count + $1 : $0) }, device: rows.places.device)
  }

  var parameters: [(name: String, parameter: Parameter)] { isOwner ? [(TokenRows.name, rows.values)] : [] }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let bias = try layer.bias?.value(like: input).selecting(rows.indices)
    let own = try input.linear(rows.values.value(like: input), bias: bias)  // [T, n]
    return try Tensor.concatenated([next(input), own], dimension: -1).selecting(columns, dimension: -1)
  }

  func merged(_ weight: Tensor) throws -> Tensor { try rows.merged(weight) }
}
