import JSON
import Models
import NeuralNetworks
import OrderedCollections
import Torch

/// Prompt tuning: trained vectors among the embeddings, before those of each sequence (Lester et al. 2021,
/// arXiv:2104.08691).
public struct PromptTuningConfig: AdapterConfiguration, Hashable {
  /// How the vectors start.
  public enum Initialization: String, Sendable, Hashable, CaseIterable {
    /// Normal with deviation 1, which is far from any token.
    case random = "RANDOM"
    /// The embeddings of a text's tokens, repeated or cut to the number of virtual tokens.
    case text = "TEXT"
    /// The embeddings of tokens drawn from the vocabulary.
    case sampleVocabulary = "SAMPLE_VOCAB"
  }

  public var virtualTokens: VirtualTokenSettings
  public var promptTuningInit: Initialization
  public var promptTuningInitText: String?
  /// Whose tokens the text is made of, recorded with the adapter; nil is the base model's.
  public var tokenizerNameOrPath: String?
  /// The tokens of the text; a training run fills them in.
  public var promptTuningInitTokens: [Int32]?
  public var common: CommonAdapterSettings

  /// - Parameter promptTuningInitTokens: the tokens of `promptTuningInitText`; needed to start from the text.
  public init(
    numVirtualTokens: Int, promptTuningInit: Initialization = .random, promptTuningInitText: String? = nil,
    promptTuningInitTokens: [Int32]? = nil, tokenizerNameOrPath: String? = nil,
    taskType: String? = "CAUSAL_LM"
  ) {
    virtualTokens = VirtualTokenSettings(count: numVirtualTokens)
    self.promptTuningInit = promptTuningInit
    self.promptTuningInitText = promptTuningInitText
    self.promptTuningInitTokens = promptTuningInitTokens
    self.tokenizerNameOrPath = tokenizerNameOrPath
    common = CommonAdapterSettings(taskType: taskType)
  }

  public static let obstacleToCombining = "whose virtual tokens are read in a row and mean nothing as a sum"

  public static let method = AdapterMethod(
    peftType: "PROMPT_TUNING",
    summary: "Prompt tuning: trained vectors before the embeddings of each sequence (arXiv 2104.08691).",
    options: [
      VirtualTokenSettings.option,
      .init(
        "prompt_tuning_init", .choice(Initialization.allCases.map(\.rawValue)), default: "RANDOM",
        "How the vectors start: at random, as the embeddings of a text (`TEXT`), or as those of tokens drawn from the "
          + "vocabulary (`SAMPLE_VOCAB`)."),
      .init(
        "prompt_tuning_init_text", .optional(.string), default: nil,
        "The text to start from, for `TEXT`; repeated or cut to the number of virtual tokens."),
    ] + CommonAdapterSettings.options,
    // In a configuration file, `tokenizer_name_or_path` is the run's tokenizer, which makes the text's tokens as well.
    inertFields: VirtualTokenSettings.recordedFields.union(["tokenizer_name_or_path", "tokenizer_kwargs"])
  ) { try PromptTuningConfig($0) }

  public init(_ fields: AdapterFields) throws {
    virtualTokens = try VirtualTokenSettings(fields)
    let initialization = try fields.string("prompt_tuning_init") ?? "RANDOM"
    guard let known = Initialization(rawValue: initialization) else {
      throw fields.invalid("prompt_tuning_init", remedy: "write RANDOM, TEXT or SAMPLE_VOCAB")
    }
    promptTuningInit = known
    promptTuningInitText = try fields.string("prompt_tuning_init_text")
    tokenizerNameOrPath = try fields.string("tokenizer_name_or_path")
    common = try CommonAdapterSettings(fields)
    if promptTuningInit == .text, promptTuningInitText?.isEmpty ?? true, !virtualTokens.isSaved {
      throw fields.invalid("prompt_tuning_init_text", remedy: "write the text to start from")
    }
    if promptTuningInit != .text, promptTuningInitText != nil, !virtualTokens.isSaved {
      throw fields.invalid(
        "prompt_tuning_init_text", remedy: "leave it out, or set prompt_tuning_init to TEXT")
    }
  }

  public var ownFields: OrderedDictionary<String, JSONValue> {
    func text(_ value: String?) -> JSONValue { value.map(JSONValue.string) ?? .null }
    return virtualTokens.fields.merging(
      [
        "prompt_tuning_init": .string(promptTuningInit.rawValue),
        "prompt_tuning_init_text": text(promptTuningInitText),
        // PEFT refuses to read a configuration that starts from a text and names no tokenizer.
        "tokenizer_name_or_path": text(
          tokenizerNameOrPath ?? (promptTuningInit == .text ? common.baseModelNameOrPath : nil)),
        "tokenizer_kwargs": .null,
      ], uniquingKeysWith: { $1 })
  }

  public var virtualTokenCount: Int { virtualTokens.count }

  public mutating func encodeTexts(_ encode: (String) throws -> [Int32]) throws {
    guard promptTuningInit == .text, let promptTuningInitText else { return }
    promptTuningInitTokens = try encode(promptTuningInitText)
  }

  public mutating func complete(for model: any PretrainedModel) throws {
    try virtualTokens.complete(for: model, areKeysAndValues: false)
  }

  // MARK: The adapter

  public func makeAdapter(for model: any PretrainedModel) throws -> any Adapter {
    let encoder = PromptEmbedding(embedding: try startingTable(model))
    return VirtualTokenAdapter(encoder, count: virtualTokens.count, width: model.hiddenSize, model: model) {
      .embeddings($0)
    }
  }

  private func startingTable(_ model: any PretrainedModel) throws -> Embedding {
    let count = virtualTokens.count
    let tokens: [Int64]
    switch promptTuningInit {
    // A saved adapter's vectors come from its file.
    case _ where virtualTokens.isSaved: fallthrough
    case .random:
      return try .initialized(count, model.hiddenSize, device: model.device)
    case .sampleVocabulary:
      tokens = try Tensor.uniform([count], high: Double(model.vocabularySize), dtype: .float64)
        .array(of: Int64.self)
    case .text:
      guard let text = promptTuningInitTokens, !text.isEmpty else {
        throw AdapterError(
          "`prompt_tuning_init` is TEXT, and the text has no tokens. Give promptTuningInitTokens, what the model's tokenizer "
            + "makes of the text, and a text that is not empty.")
      }
      if let unknown = text.first(where: { $0 < 0 || $0 >= model.vocabularySize }) {
        throw AdapterError(
          "The text of `prompt_tuning_init_text` has the token \(unknown), and the model knows those from 0 to "
            + "\(model.vocabularySize - 1). Name the model's own tokenizer in tokenizer_name_or_path.")
      }
      tokens = (0..<count).map { Int64(text[$0 % text.count]) }
    }
    let rows = try withoutGradient {
      try model.inputEmbedding.rows(Tensor(tokens, device: model.device)).to(.float32)
    }
    let weight = Parameter(rows)
    try weight.setTrainable(true)
    return Embedding(weight: weight)
  }
}

/// The vectors of virtual tokens, one row each.
final class PromptEmbedding: Module, VirtualTokenEncoder {
  let embedding: Embedding  // [n, hidden]
  var isTraining = false

  init(embedding: Embedding) {
    self.embedding = embedding
  }

  var isTable: Bool { true }

  func callAsFunction() -> Tensor { embedding.weight.value }
}
