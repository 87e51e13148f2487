import Datasets
import JSON
import Testing

@Suite struct ExampleEncoderTests {
  private func encode(
    _ sample: Sample, _ options: EncodingOptions = .init(),
    _ tokenization: TextTokenization = WordTokenization.chat
  ) throws -> ExampleEncoder.Outcome {
    try ExampleEncoder(tokenization, options: options).encode(sample)
  }

  private func example(_ outcome: ExampleEncoder.Outcome) throws -> Example {
    guard case .example(let example, _) = outcome else { throw DataError("\(outcome)") }
    return example
  }

  private let conversation = Sample.Conversation(
    messages: [("user", "a b"), ("assistant", "c d"), ("user", "e"), ("assistant", "f")].map {
      ["role": .string($0.0), "content": .string($0.1)]
    })
  private let rendered =
    "<|im_start|>user\na b<|im_end|>\n<|im_start|>assistant\nc d<|im_end|>\n<|im_start|>user\ne<|im_end|>\n"
    + "<|im_start|>assistant\nf<|im_end|>\n"

  @Test("a conversation supervises what the assistant says and how it ends, nothing is appended")
  func assistantTurns() throws {
    let example = try example(encode(.conversation(conversation)))
    #expect(example.tokens == WordTokenization.pieces(rendered).map(WordTokenization.id))
    #expect(
      WordTokenization.supervised(example, in: rendered) == ["c", " d", "<|im_end|>", "f", "<|im_end|>"])
    #expect(zip(example.tokens, example.labels).allSatisfy { $1 == ignoreIndex || $0 == $1 })
  }

  @Test("only the completion's turns are supervised when the prompt holds others")
  func lastTurns() throws {
    var conversation = conversation
    conversation.supervisedTurns = 1
    let example = try example(encode(.conversation(conversation)))
    #expect(WordTokenization.supervised(example, in: rendered) == ["f", "<|im_end|>"])
  }

  @Test("prompt and completion: the completion and the end of the text are supervised")
  func completion() throws {
    let example = try example(encode(.completion(prompt: "a b", completion: " c d")))
    #expect(WordTokenization.supervised(example, in: "a b c d") == [" c", " d", "<end>"])
    #expect(example.tokens.last == WordTokenization.endOfSequence)
    #expect(example.supervisedTokens == 3)
  }

  @Test("a token that runs across the boundary is supervised")
  func boundary() throws {
    let example = try example(encode(.completion(prompt: "a b", completion: "c d")))
    #expect(WordTokenization.supervised(example, in: "a bc d") == [" bc", " d", "<end>"])
  }

  @Test("white space that the tokenizer leaves out of its ranges is supervised")
  func trimmedOffsets() throws {
    // "ab" + " c" + line break + "d", with ranges as a post-processor with trim_offsets gives them.
    let trimming = TextTokenization(identity: "trimming", endOfSequence: 0) { _, _ in
      ([1, 2, 3, 4, 5], [nil, 0..<2, 3..<4, 5..<5, 5..<6])
    }
    let encoded = try example(encode(.completion(prompt: "ab", completion: " c\nd"), .init(), trimming))
    #expect(encoded.tokens == [1, 2, 3, 4, 5, 0])
    #expect(encoded.labels == [-100, -100, 3, 4, 5, 0])
  }

  @Test("text supervises all; an end that is there is not doubled")
  func text() throws {
    let example = try example(encode(.text("a b<|im_end|>")))
    #expect(example.labels == example.tokens)
    #expect(example.count == 3)
    #expect(example.supervisedTokens == 2)  // nothing predicts the first token
  }

  @Test("train_on_inputs supervises the user's side too")
  func trainOnInputs() throws {
    let example = try example(encode(.conversation(conversation), .init(trainOnInputs: true)))
    #expect(example.labels == example.tokens)
  }

  @Test("a model without a chat template gets the plain form, or an error")
  func plain() throws {
    let row = Row(["question": "a b", "answer": "c"])
    let sample = try RowFormats.format(for: row).sample(from: row)
    let example = try example(encode(sample, .init(), WordTokenization.plain))
    #expect(WordTokenization.supervised(example, in: "a b\nc") == ["c", "<end>"])
    let error = dataError { _ = try encode(.conversation(conversation), .init(), WordTokenization.plain) }
    #expect(error?.message.contains("no chat template") == true)
  }

  @Test("long rows are truncated at the end asked for, dropped, or an error")
  func overlong() throws {
    let sample = Sample.completion(prompt: "a b", completion: " c d e")  // 6 tokens with the end
    let start = try encode(sample, .init(maxLength: 4))
    #expect(try example(start).count == 4)
    #expect(WordTokenization.supervised(try example(start), in: "a b c d e") == [" c", " d"])
    let end = try encode(sample, .init(maxLength: 3, truncationMode: .keepEnd))
    #expect(
      try example(end).tokens == [" d", " e"].map(WordTokenization.id) + [WordTokenization.endOfSequence])
    #expect(try encode(sample, .init(maxLength: 4, overlong: .drop)) == .tooLong(6))
    let error = dataError { _ = try encode(sample, .init(maxLength: 4, overlong: .error)) }
    #expect(error?.message == "the row has 6 tokens, more than max_length (4)")
    guard case .example(_, let fullLength) = try encode(sample, .init(maxLength: 6)) else { return }
    #expect(fullLength == 6)
  }

  @Test("an example without a supervised token is never made")
  func unsupervised() throws {
    let sample = Sample.completion(prompt: "a b", completion: " c d e")
    #expect(try encode(sample, .init(maxLength: 2)) == .unsupervised(byTruncation: true))
    // Cut so that only its first token, which nothing predicts, has a label.
    #expect(
      try encode(sample, .init(maxLength: 1, truncationMode: .keepEnd)) == .unsupervised(byTruncation: true))
    let none = TextTokenization(identity: "x", endOfSequence: nil, encode: WordTokenization.encode)
    #expect(
      try encode(.completion(prompt: "a b", completion: ""), .init(), none)
        == .unsupervised(byTruncation: false))
  }

  @Test("a file's rows are encoded in order, and what was dropped is counted")
  func file() async throws {
    let scratch = try Scratch()
    let lines = (0..<5000).map {
      "{\"prompt\": \"a\", \"completion\": \" \(String(repeating: "b ", count: $0 % 40))x\"}\n"
    }
    let file = try DataFile(try scratch.file("d.jsonl", lines.joined()))
    let encoder = DatasetEncoder(
      ExampleEncoder(WordTokenization.chat, options: .init(maxLength: 24, overlong: .drop)))
    let (list, report) = try await encoder.examples(of: [file])
    let alone = try (0..<40).compactMap { count -> Example? in
      let sample = Sample.completion(prompt: "a", completion: " \(String(repeating: "b ", count: count))x")
      guard case .example(let example, _) = try encoder.encoder.encode(sample) else { return nil }
      return example
    }
    #expect(list.examples == (0..<125).flatMap { _ in alone })
    #expect(report.rows == 5000)
    #expect(report.examples + report.droppedTooLong == 5000)
    #expect(report.droppedTooLong > 0)
    #expect(report.tokens == list.examples.reduce(0) { $0 + $1.count })
    #expect(report.description.contains("dropped as too long"))
  }

  @Test("data of which nothing can be trained on is an error with the counts")
  func nothingLeft() async throws {
    let scratch = try Scratch()
    let file = try DataFile(try scratch.file("d.jsonl", "{\"prompt\": \"a b c\", \"completion\": \"d\"}\n"))
    let encoder = DatasetEncoder(ExampleEncoder(WordTokenization.chat, options: .init(maxLength: 2)))
    await #expect {
      _ = try await encoder.examples(of: [file])
    } throws: { error in
      "\(error)".contains(
        "none of the 1 rows can be trained on: 1 have no supervised token (1 because of max_length)")
    }
    let empty = try DataFile(try scratch.file("e.jsonl", "\n"))
    await #expect { _ = try await encoder.examples(of: [empty]) } throws: {
      "\($0)".contains("holds no rows")
    }
  }

  @Test("an error in any row names it")
  func rowError() async throws {
    let scratch = try Scratch()
    let lines = (0..<300).map {
      $0 == 217 ? "{\"prompt\": 1}\n" : "{\"prompt\": \"a\", \"completion\": \"b\"}\n"
    }
    let file = try DataFile(try scratch.file("d.jsonl", lines.joined()))
    await #expect {
      _ = try await DatasetEncoder(ExampleEncoder(WordTokenization.chat)).examples(of: [file])
    } throws: { ($0 as? DataError)?.location?.row == 218 }
  }

  @Test("supervision is shown token by token")
  func printer() throws {
    let example = Example(tokens: [7, 12, 3], labels: [7, -100, 3])
    let printer = SupervisionPrinter(isColoured: false) {
      ["7": "a\n", "12": "\u{1B}[2J", "3": "中\""][String($0)]!
    }
    #expect(
      printer.lines(example) == [
        "0   7     \"a\\n\"", "1  12     \"\\u{1b}[2J\"", "2   3  *  \"中\\\"\"",
      ])
    #expect(printer.summary(example) == "1 of 3 tokens carry loss (*)")
    let coloured = SupervisionPrinter(isColoured: true) { _ in "x" }.lines(example)
    #expect(coloured.map { $0.hasPrefix("\u{1B}[32m") && $0.hasSuffix("\u{1B}[0m") } == [false, false, true])
  }
}
