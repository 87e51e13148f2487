import JSON
import Models
import NeuralNetworks
import Tokenizers
import Torch

/// Generates text with a language model: many prompts of any lengths at a time, without padding.
///
/// ```swift
/// let generator = Generator(model, tokenizer: try AutoTokenizer.fromPretrained(path))
/// let answers = try generator.generate(["Once upon a time"], GenerationConfig(maxNewTokens: 64))
/// ```
///
/// All prompts of a batch are read in one pass; then each step reads one token a sequence. A sequence that has ended
/// leaves the batch. Adapters that are active on the model take part.
public final class Generator {
  /// Gets the text of an answer as it is made: the prompt's number, and the text that is new.
  public typealias TextHandler = (_ prompt: Int, _ text: String) throws -> Void

  public let model: any CausalLanguageModel
  /// nil generates tokens without text.
  public let tokenizer: ChatTokenizer?
  /// Keeps what the model has read of a conversation, so that its next prompt costs only what is new. Used by calls with
  /// one prompt. Set it to a new one whenever something about the model changes, such as its adapters.
  public var conversation: ReadPrefix?
  /// See ``GenerationConfig/packsWeights``.
  private var packing: WeightPacking?
  /// Work and time of the last call.
  public private(set) var statistics = GenerationStatistics()

  public init(_ model: any CausalLanguageModel, tokenizer: ChatTokenizer? = nil) {
    self.model = model
    self.tokenizer = tokenizer
  }

  // MARK: Prompts

  /// Answers a conversation.
  ///
  /// - Throws: ``GenerationError`` when the model has no chat template, and what continuing tokens throws.
  public func generate(
    _ messages: [Message], tools: [JSONValue]? = nil, _ config: GenerationConfig = .init(),
    onText: TextHandler? = nil, isCancelled: () -> Bool = { Task.isCancelled }
  ) throws -> GenerationOutput {
    let prompt = try needTokenizer().applyChatTemplate(messages, tools: tools)
    return try generate([prompt], config, onText: onText, isCancelled: isCancelled)[0]
  }

  /// Continues texts.
  public func generate(
    _ prompts: [String], _ config: GenerationConfig = .init(), batchSize: Int? = nil,
    onText: TextHandler? = nil, isCancelled: () -> Bool = { Task.isCancelled }
  ) throws -> [GenerationOutput] {
    let tokenizer = try needTokenizer()
    return try generate(
      prompts.map { tokenizer.encode($0) }, config, batchSize: batchSize, onText: onText,
      isCancelled: isCancelled)
  }

  /// Continues sequences of tokens.
  ///
  /// - Parameters:
  ///   - batchSize: prompts that are worked on at a time; nil is all.
  ///   - onText: gets text that is settled: no part of a character, and nothing that may belong to a stop string.
  ///   - isCancelled: asked before every step; answers that are under way then end as they are, and those not begun
  ///     are empty.
  /// - Returns: one output a prompt, in their order.
  /// - Throws: ``GenerationError`` when a prompt is empty, longer than the model's context or has tokens that the model
  ///   does not know, or when a setting is impossible; before anything is computed.
  public func generate(
    _ prompts: [[Int32]], _ config: GenerationConfig = .init(), batchSize: Int? = nil,
    onText: TextHandler? = nil, isCancelled: () -> Bool = { Task.isCancelled }
  ) throws -> [GenerationOutput] {
    statistics = GenerationStatistics()
    try config.validate()
    for (index, prompt) in prompts.enumerated() { try check(prompt, index) }
    guard config.stopStrings.isEmpty || tokenizer != nil else {
      throw GenerationError("Stop strings are texts; give the generator the model's tokenizer to find them.")
    }
    let ends = endTokens(config)
    let chooser = TokenChooser(config, eosTokens: ends.tokens)
    var outputs: [GenerationOutput] = []
    let size = max(1, batchSize ?? prompts.count)
    for start in stride(from: 0, to: prompts.count, by: size) {
      let answers = (start..<min(start + size, prompts.count)).map { index in
        Answer(
          index: index, prompt: prompts[index], eosTokens: ends.tokens,
          limit: limit(promptCount: prompts[index].count, config), stopStrings: ends.texts,
          tokenizer: tokenizer?.tokenizer)
      }
      outputs += try withoutGradient {
        try run(answers, chooser, config, onText: onText, isCancelled: isCancelled)
      }
    }
    return outputs
  }

  // MARK: The loop

  private func run(
    _ answers: [Answer], _ chooser: TokenChooser, _ config: GenerationConfig, onText: TextHandler?,
    isCancelled: () -> Bool
  ) throws -> [GenerationOutput] {
    try model.optimizeLayout()
    var finished: [Int: GenerationOutput] = [:]
    var active = answers
    var generators = answers.map { chooser.makeGenerator(sequence: $0.index) }
    var next = answers.map(\.sequence.tokens)  // what the model has not read
    let conversation = answers.count == 1 ? conversation : nil
    let cache = conversation?.cache ?? model.makeCache(sequenceCount: answers.count)
    if let conversation { next = [conversation.rest(of: next[0])] }
    let clock = ContinuousClock()
    var isPrefill = true

    while !active.isEmpty {
      guard !isCancelled() else {
        for var answer in active {
          try deliver(answer.cancel(), of: answer, to: onText)
          finished[answer.index] = answer.output
        }
        break
      }
      let began = clock.now
      let input = try ModelInput(next, cache: cache, device: model.device)
      let logits = try model.nextTokenLogits(input)  // [N, vocabulary]
      conversation?.tokens += next[0]
      let tokens = try chooser.choose(logits, active.map(\.sequence), &generators)
      if !isPrefill, config.packsWeights { try packWeights() }
      count(next, seconds: (clock.now - began) / .seconds(1), isPrefill: isPrefill)
      isPrefill = false

      var kept: [Int] = []
      for (row, token) in tokens.enumerated() {
        let text = active[row].append(token)
        try deliver(text, of: active[row], to: onText)
        if active[row].finishReason == nil {
          kept.append(row)
        } else {
          finished[active[row].index] = active[row].output
        }
      }
      if kept.count < active.count {
        if !kept.isEmpty { try cache.keep(kept) }
        active = kept.map { active[$0] }
        generators = kept.map { generators[$0] }
      }
      next = kept.map { [tokens[$0]] }
    }
    return answers.map { finished[$0.index]! }
  }

  private func packWeights() throws {
    if packing == nil { packing = WeightPacking(of: model) }
    if packing?.isDone == false { try packing?.step() }
  }

  private func deliver(_ text: String, of answer: Answer, to onText: TextHandler?) throws {
    if !text.isEmpty { try onText?(answer.index, text) }
  }

  private func count(_ next: [[Int32]], seconds: Double, isPrefill: Bool) {
    let tokens = next.reduce(0) { $0 + $1.count }
    if isPrefill {
      statistics.promptTokens += tokens
      statistics.answers += next.count
      statistics.prefillSeconds += seconds
    } else {
      statistics.decodedTokens += tokens
      statistics.decodeSeconds += seconds
    }
  }

  // MARK: Checks and limits

  private func needTokenizer() throws -> ChatTokenizer {
    guard let tokenizer else {
      throw GenerationError(
        "This generator was made without a tokenizer; give it one, or prompts that are tokens.")
    }
    return tokenizer
  }

  private func check(_ prompt: [Int32], _ index: Int) throws {
    guard !prompt.isEmpty else {
      throw GenerationError(
        "Prompt \(index + 1) has no tokens, and a model can only continue something. Give it at least one, for instance "
          + "the token that begins a text.")
    }
    guard prompt.count < context else {
      let virtual = model.contextLength - context
      throw GenerationError(
        "Prompt \(index + 1) has \(prompt.count) tokens, and the model's context ends at \(model.contextLength), the "
          + "answer \(virtual > 0 ? "and the adapter's \(virtual) virtual tokens " : "")included. Shorten the prompt."
      )
    }
    let vocabulary = model.vocabularySize
    if let token = prompt.first(where: { $0 < 0 || $0 >= vocabulary }) {
      throw GenerationError(
        "Prompt \(index + 1) has the token \(token), and the model knows those from 0 to \(vocabulary - 1). Its tokenizer "
          + "is another model's.")
    }
  }

  /// The context that is left for prompt and answer.
  private var context: Int { model.contextLength - (model.virtualTokens?.count ?? 0) }

  private func limit(promptCount: Int, _ config: GenerationConfig) -> (Int, FinishReason) {
    let wanted = config.limit(promptCount: promptCount)
    let possible = context - promptCount
    // At least the one token that reading the prompt gives.
    return wanted <= possible ? (max(1, wanted), .length) : (possible, .contextLength)
  }

  /// What ends an answer. A stop string that is a special token is that token: the text does not show it.
  private func endTokens(_ config: GenerationConfig) -> (tokens: [Int32], texts: [String]) {
    var tokens = config.eosTokenIDs
    if tokens == nil {
      tokens = model.configuration.endOfSequenceTokens.map { Int32(clamping: $0) }
      if let own = tokenizer?.tokenizer.eosTokenID { tokens?.append(own) }
    }
    let special = tokenizer?.tokenizer.specialTokens ?? []
    var texts: [String] = []
    for stop in config.stopStrings {
      if let token = special.first(where: { $0.content == stop }) {
        tokens?.append(Int32(token.id))
      } else {
        texts.append(stop)
      }
    }
    return (tokens ?? [], texts)
  }
}
