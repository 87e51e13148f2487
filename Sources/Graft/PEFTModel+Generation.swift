import Adapters
import Generation
import Models

extension PEFTModel {
  /// Continues sequences of tokens with the active adapters: transformers' `generate`.
  ///
  /// ```swift
  /// let outputs = try model.generate(tokenizer(["Once upon a time"]), maxNewTokens: 100)
  /// print(tokenizer.batchDecode(outputs)[0])
  /// ```
  ///
  /// ``Generator`` does the same with text, streaming and stop strings.
  ///
  /// - Parameter maxNewTokens: tokens to generate at most; nil leaves it to `config`.
  /// - Returns: each prompt with its continuation, as transformers returns them.
  /// - Throws: ``GenerationError`` for prompts and settings that are impossible, before anything is computed.
  public func generate(
    _ prompts: [[Int32]], maxNewTokens: Int? = nil, _ config: GenerationConfig = .init()
  ) throws -> [[Int32]] {
    try causalLanguageModel().generate(prompts, maxNewTokens: maxNewTokens, config)
  }
}

extension CausalLanguageModel {
  /// Continues sequences of tokens: transformers' `generate`. Adapters that are active on the model take part.
  ///
  /// - Parameter maxNewTokens: tokens to generate at most; nil leaves it to `config`.
  /// - Returns: each prompt with its continuation, as transformers returns them.
  /// - Throws: ``GenerationError`` for prompts and settings that are impossible, before anything is computed.
  public func generate(
    _ prompts: [[Int32]], maxNewTokens: Int? = nil, _ config: GenerationConfig = .init()
  ) throws -> [[Int32]] {
    var config = config
    if let maxNewTokens { config.maxNewTokens = maxNewTokens }
    let outputs = try Generator(self).generate(prompts, config)
    return zip(prompts, outputs).map { $0 + $1.tokens }
  }
}
