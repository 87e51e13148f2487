import JSON

/// What an ``ExampleEncoder`` needs of a model's tokenizer.
public struct TextTokenization: Sendable {
  /// Tokens of a text with the UTF-8 bytes that each stands for; `nil` for tokens that the tokenizer added.
  ///
  /// Ranges may leave out white space, as some post-processors have it.
  public typealias Encode =
    @Sendable (_ text: String, _ addSpecialTokens: Bool) throws -> (
      tokens: [Int32], offsets: [Range<Int>?]
    )
  /// The text of a conversation, and the UTF-8 ranges in it that each turn of the assistant produced.
  public typealias Render =
    @Sendable (_ messages: [JSONValue], _ tools: [JSONValue]?) throws -> (
      text: String, supervised: [Range<Int>]
    )

  public var encode: Encode
  /// Tokens of two texts that belong together, joined as the tokenizer joins them; `nil` where it does not.
  public var encodePair: (@Sendable (_ text: String, _ pair: String) throws -> [Int32])?
  /// `nil` for a model without a chat template.
  public var render: Render?
  /// Ends text that is no conversation; `nil` for a tokenizer without such a token.
  public var endOfSequence: Int32?
  /// Tells tokenizers (and templates) apart in the names of token caches: a hash of their files, say.
  public var identity: String

  public init(
    identity: String, endOfSequence: Int32?, encode: @escaping Encode, render: Render? = nil
  ) {
    self.identity = identity
    self.endOfSequence = endOfSequence
    self.encode = encode
    self.render = render
  }
}

/// How samples become examples. The names are those of TRL's `SFTConfig` where it has the option.
public struct EncodingOptions: Sendable, Codable, Hashable {
  public enum TruncationMode: String, Sendable, Codable, CaseIterable {
    case keepStart = "keep_start"
    case keepEnd = "keep_end"
  }

  /// What happens to an example of more than ``EncodingOptions/maxLength`` tokens.
  public enum Overlong: String, Sendable, Codable, CaseIterable {
    case truncate, drop, error
  }

  /// `nil` sets no limit.
  public var maxLength: Int?
  public var truncationMode: TruncationMode
  public var overlong: Overlong
  /// Supervise everything, prompts and the user's turns too.
  public var trainOnInputs: Bool

  public init(
    maxLength: Int? = 1024, truncationMode: TruncationMode = .keepStart, overlong: Overlong = .truncate,
    trainOnInputs: Bool = false
  ) {
    self.maxLength = maxLength
    self.truncationMode = truncationMode
    self.overlong = overlong
    self.trainOnInputs = trainOnInputs
  }
}

/// Turns samples into tokens and labels.
public struct ExampleEncoder: Sendable {
  public let tokenization: TextTokenization
  public let options: EncodingOptions

  public init(_ tokenization: TextTokenization, options: EncodingOptions = .init()) {
    self.tokenization = tokenization
    self.options = options
  }

  public enum Outcome: Sendable, Hashable {
    /// With how many tokens the example had before it was truncated.
    case example(Example, fullLength: Int)
    /// Dropped for its length.
    case tooLong(Int)
    /// No token of it would carry loss; with whether some would have without the truncation.
    case unsupervised(byTruncation: Bool)
  }

  /// - Parameter location: the sample's place, for errors.
  /// - Throws: ``DataError`` when the sample cannot be rendered, or is too long and that is an error.
  public func encode(_ sample: Sample, at location: DataError.Location? = nil) throws -> Outcome {
    do {
      return try truncated(full(sample, at: location), at: location)
    } catch let error as DataError {
      throw error
    } catch {
      throw DataError(
        "the row cannot be encoded: \(error)", at: location,
        remedy: "Check the row against the model's chat template")
    }
  }

  private func full(_ sample: Sample, at location: DataError.Location?) throws -> Example {
    switch sample {
    case .conversation(let conversation):
      guard let render = tokenization.render else {
        if let plain = conversation.plain {
          return try completion(prompt: plain.prompt, completion: plain.completion)
        }
        throw DataError(
          "the row is a conversation, but the model's tokenizer has no chat template", at: location,
          remedy: "Use an instruction-tuned model, give the tokenizer a chat template, or use rows with"
            + " `prompt` and `completion` text")
      }
      let (text, turns) = try render(conversation.messages, conversation.tools)
      let supervised = conversation.supervisedTurns.map { Array(turns.suffix($0)) } ?? turns
      // The template writes the special tokens itself.
      return try example(text, supervised: supervised, addSpecialTokens: false, endOfSequence: nil)
    case .completion(let prompt, let completion):
      return try self.completion(prompt: prompt, completion: completion)
    case .text(let text):
      return try example(
        text, supervised: [0..<text.utf8.count], addSpecialTokens: true,
        endOfSequence: tokenization.endOfSequence)
    case .labelled(let text, let target):
      return Example(tokens: try tokens(of: text, at: location), target: target)
    }
  }

  /// The tokens of what is to be given a label, as transformers' tokenizers make them: nothing ends them.
  ///
  /// - Throws: ``DataError`` for an empty text, and a conversation where there is no chat template.
  public func tokens(of text: Sample.LabelledText, at location: DataError.Location? = nil) throws -> [Int32] {
    let tokens: [Int32]
    switch text {
    case .text(let text): tokens = try tokenization.encode(text, true).tokens
    case .pair(let text, let pair):
      guard let encodePair = tokenization.encodePair else {
        throw DataError(
          "the tokenizer does not join pairs of texts", at: location, remedy: "Put both texts into one column"
        )
      }
      tokens = try encodePair(text, pair)
    case .conversation(let conversation):
      guard let render = tokenization.render else {
        throw DataError(
          "the row is a conversation, but the model's tokenizer has no chat template", at: location,
          remedy:
            "Use an instruction-tuned model, give the tokenizer a chat template, or use rows with `text`")
      }
      tokens = try tokenization.encode(render(conversation.messages, conversation.tools).text, false).tokens
    }
    guard !tokens.isEmpty else {
      throw DataError(
        "the text has no tokens, so that there is nothing to be labelled", at: location,
        remedy: "Leave out rows without text")
    }
    return tokens
  }

  /// ``tokens(of:at:)`` as they are read: cut to `max_length` as the options say.
  public func readTokens(of text: Sample.LabelledText, at location: DataError.Location? = nil) throws
    -> [Int32]
  {
    let tokens = try tokens(of: text, at: location)
    return Array(tokens[kept(of: tokens.count)])
  }

  private func completion(prompt: String, completion: String) throws -> Example {
    let text = prompt + completion
    return try example(
      text, supervised: [prompt.utf8.count..<text.utf8.count], addSpecialTokens: true,
      endOfSequence: tokenization.endOfSequence)
  }

  /// A token is supervised when any of its bytes are: where a token runs across the boundary, the model has to
  /// produce it to produce the supervised text.
  private func example(
    _ text: String, supervised: [Range<Int>], addSpecialTokens: Bool, endOfSequence: Int32?
  ) throws -> Example {
    var (tokens, offsets) = try tokenization.encode(text, addSpecialTokens)
    precondition(tokens.count == offsets.count, "the tokenizer gives one range for each token")
    // The text may bring its own end; the tokenizer may add one.
    if let endOfSequence, tokens.last != endOfSequence {
      tokens.append(endOfSequence)
      offsets.append(nil)
    }
    if options.trainOnInputs { return Example(tokens: tokens, labels: tokens) }
    var labels = [Int32](repeating: ignoreIndex, count: tokens.count)
    var ranges = supervised.sorted { $0.lowerBound < $1.lowerBound }[...]
    var covered = 0  // bytes up to here belong to earlier tokens
    for (index, offset) in offsets.enumerated() {
      guard let offset else { continue }
      // White space that a range leaves out is its token's: a line break in an answer has to be learnt.
      let bytes = min(offset.lowerBound, covered)..<max(offset.upperBound, covered)
      covered = bytes.upperBound
      while let range = ranges.first, range.upperBound <= bytes.lowerBound { ranges.removeFirst() }
      guard let range = ranges.first else { break }
      if bytes.upperBound > range.lowerBound && !bytes.isEmpty { labels[index] = tokens[index] }
    }
    if let endOfSequence, tokens.last == endOfSequence {
      // A completion ends; the model has to learn that as well.
      labels[tokens.count - 1] = endOfSequence
    }
    return Example(tokens: tokens, labels: labels)
  }

  /// What stays of so many tokens.
  private func kept(of count: Int) -> Range<Int> {
    guard let maxLength = options.maxLength, count > maxLength else { return 0..<count }
    return switch options.truncationMode {
    case .keepStart: 0..<maxLength
    case .keepEnd: count - maxLength..<count
    }
  }

  private func truncated(_ example: Example, at location: DataError.Location?) throws -> Outcome {
    guard example.supervisedTokens > 0 else { return .unsupervised(byTruncation: false) }
    guard let maxLength = options.maxLength, example.count > maxLength else {
      return .example(example, fullLength: example.count)
    }
    switch options.overlong {
    case .drop:
      return .tooLong(example.count)
    case .error:
      throw DataError(
        "the row has \(example.count) tokens, more than max_length (\(maxLength))", at: location,
        remedy: "Raise max_length, or have long rows truncated or dropped")
    case .truncate:
      let kept = kept(of: example.count)
      let short = Example(
        tokens: Array(example.tokens[kept]), labels: Array(example.labels[kept]), target: example.target)
      return short.supervisedTokens > 0
        ? .example(short, fullLength: example.count) : .unsupervised(byTruncation: true)
    }
  }
}
