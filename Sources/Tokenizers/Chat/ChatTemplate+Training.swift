import JSON
import Jinja
import OrderedCollections

/// A conversation as text, and the parts of it that a model learns to write.
public struct TrainingText: Sendable, Hashable {
  public var text: String
  /// Ranges of UTF-8 bytes of `text`, in order and apart from each other.
  public var supervised: [Range<Int>]
  /// Which messages could not be supervised, by their index; see ``UnlocatedTurns``.
  public var skippedTurns: [Int]
}

/// What to do with an assistant's turn that has no certain place in the text.
public enum UnlocatedTurns: Sendable, Hashable {
  /// Refuse the conversation.
  case fail
  /// Supervise the other turns; the last one must be among them.
  case skip
}

extension ChatTemplate {
  /// The text of a whole conversation and what in it the assistant wrote.
  ///
  /// A template with `{% generation %}` marks the assistant's parts itself. For every other template the part
  /// of turn *i* is what the text of the messages up to and including *i* adds to the text of the messages
  /// before it with the generation prompt: exactly what the model has to produce at that point, its end-of-turn
  /// token included and the header before it not.
  ///
  /// That is certain only where both texts are beginnings of the whole. Templates that rewrite the past (Qwen3
  /// drops earlier reasoning, DeepSeek-R1 too) show an earlier turn otherwise than the model wrote it; with
  /// `.fail` this is an error, with `.skip` the turn is not supervised and named in `skippedTurns`. The last turn
  /// is always supervised or the conversation is refused: a template that writes the end of the last turn
  /// otherwise than the end of an earlier one does no harm there.
  ///
  /// When the generation prompt itself is not how the answer begins (a template whose prompt opens a reasoning
  /// block that a turn without reasoning does not have), the part begins where the prompt and the turn part.
  ///
  /// - Throws: `TemplateError` when the template refuses the conversation, ``ChatTemplateError`` when it has no
  ///   assistant's turn or one that cannot be located.
  public func renderForTraining(
    messages: [Message], tools: [JSONValue]? = nil, documents: [JSONValue]? = nil,
    variables: OrderedDictionary<String, JSONValue> = [:], unlocatedTurns: UnlocatedTurns = .fail
  ) throws -> TrainingText {
    let template = template(forTools: tools)
    let turns = messages.indices.filter { messages[$0].role == "assistant" }
    guard let lastTurn = turns.last else {
      throw ChatTemplateError("the conversation has no assistant's turn to learn from")
    }
    let values = messages.map(Self.aliased)
    func context(_ count: Int, prompt: Bool) -> OrderedDictionary<String, JSONValue> {
      self.context(Array(values.prefix(count)), tools, documents, prompt, variables)
    }

    if template.marksGeneration {
      let rendering = try template.renderTrackingGeneration(
        context(values.count, prompt: false), options: options)
      let supervised = rendering.generated.filter { !$0.isEmpty }
      guard !supervised.isEmpty else {
        throw ChatTemplateError(
          "the template's {% generation %} blocks mark nothing in this conversation of \(messages.count) messages"
        )
      }
      return TrainingText(text: rendering.text, supervised: supervised, skippedTurns: [])
    }

    let text = try template.render(context(values.count, prompt: false), options: options)
    let whole = Array(text.utf8)
    var supervised: [Range<Int>] = []
    var skipped: [Int] = []
    for turn in turns {
      var place = try locate(turn, in: whole, isEnd: turn == values.count - 1) { count, prompt in
        Array(try template.render(context(count, prompt: prompt), options: options).utf8)
      }
      if case .success(let range) = place {
        if range.isEmpty || range.lowerBound < supervised.last?.upperBound ?? 0 {
          place = .failure(.init("the template writes nothing for it"))
        } else if !holds(values[turn], whole[range]) {
          place = .failure(.init("the template does not write its content; it may want a list of parts"))
        }
      }
      switch place {
      case .success(let range):
        supervised.append(range)
      case .failure(let reason):
        guard turn != lastTurn, unlocatedTurns == .skip else {
          throw ChatTemplateError(
            "message \(turn) (assistant) cannot be located in the text: \(reason.message). "
              + (turn == lastTurn
                ? "Use a template with {% generation %} blocks"
                : "Supervise only the turns that can be located, or use a template with {% generation %} blocks")
          )
        }
        skipped.append(turn)
      }
    }
    guard !supervised.isEmpty else {
      throw ChatTemplateError("the template writes nothing for the assistant's turns of this conversation")
    }
    return TrainingText(text: text, supervised: supervised, skippedTurns: skipped)
  }

  /// Where the assistant's message `turn` lies in the whole text.
  private func locate(
    _ turn: Int, in whole: [UInt8], isEnd: Bool, render: (_ count: Int, _ prompt: Bool) throws -> [UInt8]
  ) throws -> Result<Range<Int>, ChatTemplateError> {
    let before: [UInt8]
    let prompt: [UInt8]
    let through: [UInt8]
    do {
      prompt = try render(turn, true)
      before = try render(turn, false)
      through = isEnd ? whole : try render(turn + 1, false)
    } catch let error as TemplateError where error.kind == .limit {
      throw error
    } catch {
      return .failure(.init("the template refuses the messages before it alone (\(error))"))
    }
    // The end: where the text up to this turn stops. What follows must not have changed it.
    // Some templates (Phi-3's) end every text with the end-of-text token, which belongs to no earlier turn.
    var end = through.count
    if !whole.starts(with: through), let token = specialTokens["eos_token"].map({ Array($0.utf8) }),
      through.count > token.count, through[(through.count - token.count)...].elementsEqual(token)
    {
      end -= token.count
    }
    guard whole.starts(with: through[..<end]) else {
      return .failure(.init("the template writes it otherwise once more messages follow"))
    }
    if end >= prompt.count, through.starts(with: prompt) { return .success(prompt.count..<end) }
    // The prompt is not how the turn begins, though what comes before the prompt is: the part starts where
    // the two differ, which must lie within the prompt and between two characters.
    let shared = zip(prompt, through).prefix { $0 == $1 }.count
    guard through.starts(with: before), shared > before.count else {
      return .failure(.init("the template writes the messages before it otherwise once it follows"))
    }
    var start = shared
    while start > before.count, start < end, through[start] & 0xC0 == 0x80 { start -= 1 }
    return .success(start..<end)
  }

  /// Whether `part` has what the message says: its last line, since templates may drop reasoning before it.
  private func holds(_ message: JSONValue, _ part: ArraySlice<UInt8>) -> Bool {
    guard let content = message["content"]?.stringValue else { return true }
    let lastLine = content.split(whereSeparator: \.isNewline).last { !$0.allSatisfy(\.isWhitespace) }
    guard let lastLine else { return true }
    let words = lastLine.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    let text = String(decoding: part, as: UTF8.self).split(whereSeparator: \.isWhitespace).joined(
      separator: " ")
    return text.contains(words)
  }
}
