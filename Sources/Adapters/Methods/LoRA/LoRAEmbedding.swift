import NeuralNetworks
import Torch

/// The pair A, B behind one embedding: row v of the table is e_v + s · (B A)ᵀ_v.
final class LoRAEmbedding: EmbeddingChange {
  let a: Parameter  // [r, vocabulary]
  let b: Parameter  // [width, r]
  let scale: Double
  private let loraDropout: Double  // printed, as PEFT does not apply it either

  init(_ table: Embedding, rank: Int, scale: Double, _ configuration: LoRAConfig) throws {
    self.scale = scale
    loraDropout = configuration.loraDropout
    let start = configuration.initLoRAWeights
    let device = table.device
    let (count, width) = (table.weight.shape[0], table.weight.shape[1])
    // The other way round than at a linear layer: rows of A are looked up, so it is A that starts at zero.
    a = Parameter(
      try start == .random ? .normal([rank, count], device: device) : .zeros([rank, count], device: device))
    b = Parameter(try .normal([width, rank], device: device))
    for parameter in [a, b] { try parameter.setTrainable(true) }
  }

  var parameters: [(name: String, parameter: Parameter)] {
    [("lora_embedding_A", a), ("lora_embedding_B", b)]
  }

  var printed: PrintedLayer {
    .lora("lora.Embedding", dropout: loraDropout, embeddingA: a.shape, embeddingB: b.shape)
  }

  /// s (B A)ᵀ at the tokens: `[T, width]`.
  func change(_ tokens: Tensor) throws -> Tensor {
    let rows = try a.value.transposed().embedding(tokens)  // [T, r]
    return try rows.linear(b.value) * scale
  }

  func forward(_ tokens: Tensor, output: Tensor) throws -> Tensor {
    try output + change(tokens).to(output.dtype)
  }

  /// E + s (B A)ᵀ.
  func merged(_ table: Tensor) throws -> Tensor {
    try table + b.value.matmul(a.value).transposed() * scale
  }
}

/// The pair of an input embedding at the output embedding that is tied to it (`ensure_weight_tying`): the same matrix,
/// E + s (B A)ᵀ, from the same parameters.
final class TiedLoRAHead: LinearChange {
  private let embedding: LoRAEmbedding

  init(_ embedding: LoRAEmbedding) {
    self.embedding = embedding
  }

  /// The embedding's part has them.
  var parameters: [(name: String, parameter: Parameter)] { [] }

  /// PEFT's files hold the pair at both ends.
  var copies: [TiedHeadPart.Copy] {
    [("lora_A.weight", embedding.b), ("lora_B.weight", embedding.a)].map { name, parameter in
      (name, parameter.shape.reversed(), { try parameter.value.detached().transposed().contiguous() })
    }
  }

  func forward(_ input: Tensor, through layer: Linear, next: (Tensor) throws -> Tensor) throws -> Tensor {
    let (a, b) = (try embedding.a.value(like: input), try embedding.b.value(like: input))
    return try next(input) + input.matmul(b).matmul(a) * embedding.scale
  }

  func merged(_ weight: Tensor) throws -> Tensor { try embedding.merged(weight) }
}
