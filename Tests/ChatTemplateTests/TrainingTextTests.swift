import Foundation
import JSON
import Jinja
import Testing
import Tokenizers

@Suite struct TrainingTextTests {
  private let turns: [Message] = [
    .system("Be kind."), .user("Hi"), .assistant("Hellö!"), .user("Bye"), .assistant("Goodbye."),
  ]

  private func parts(_ text: TrainingText) -> [String] {
    let bytes = Array(text.text.utf8)
    return text.supervised.map { String(decoding: bytes[$0], as: UTF8.self) }
  }

  @Test(
    "the supervised parts are what each assistant's turn has to produce, its end token included",
    arguments: [
      ("chatml", ["Hellö!<|im_end|>\n", "Goodbye.<|im_end|>\n"]),
      ("qwen2.5", ["Hellö!<|im_end|>\n", "Goodbye.<|im_end|>\n"]),
      ("llama3", ["Hellö!<|eot_id|>", "Goodbye.<|eot_id|>"]),
      ("llama3.2", ["Hellö!<|eot_id|>", "Goodbye.<|eot_id|>"]),
      ("phi3", ["Hellö!<|end|>\n", "Goodbye.<|end|>\n</s>"]),
      ("gemma3", ["Hellö!<end_of_turn>\n", "Goodbye.<end_of_turn>\n"]),
      ("mistral-v3-tekken", ["Hellö!</s>", "Goodbye.</s>"]),
      ("training-qwen2.5", ["\nHellö!<|im_end|>\n", "\nGoodbye.<|im_end|>\n"]),
      ("training-llama3", ["Hellö!<|eot_id|>", "Goodbye.<|eot_id|>"]),
    ])
  func spans(name: String, expected: [String]) throws {
    let template = try ChatFixture().template(name)
    let messages = name == "gemma3" || name.hasPrefix("mistral") ? Array(turns.dropFirst()) : turns
    let text = try template.renderForTraining(messages: messages)
    #expect(text.skippedTurns.isEmpty)
    #expect(parts(text) == expected)
    #expect(try text.text == template.render(messages: messages))
  }

  @Test("for every real template the parts are in the text, in order, and hold the answers")
  func everyTemplate() throws {
    let fixture = try ChatFixture()
    let messages: [Message] = [
      .user("Question one"), .assistant("Answer one"), .user("Question two"), .assistant("Answer two"),
    ]
    var located = 0
    var refused: [String] = []
    for name in fixture.expected.keys {
      let template = try fixture.template(name)
      do {
        let text = try template.renderForTraining(messages: messages, unlocatedTurns: .skip)
        let parts = parts(text)
        let answers = ["Answer one", "Answer two"].suffix(2 - text.skippedTurns.count)
        #expect(parts.joined(separator: "|").contains("Answer two"), "\(name): \(parts)")
        #expect(answers.allSatisfy { answer in parts.contains { $0.contains(answer) } }, "\(name): \(parts)")
        #expect(!parts.contains { $0.contains("Question") }, "\(name): \(parts)")
        #expect(
          zip(text.supervised, text.supervised.dropFirst()).allSatisfy { $0.upperBound <= $1.lowerBound })
        located += 1
      } catch {
        refused.append("\(name): \(error)")
      }
    }
    print("supervision: \(located) templates, refused: \(refused)")
    #expect(located >= 50, "\(refused)")
  }

  @Test("a turn whose text changes once more messages follow is an error, or skipped and named")
  func rewrittenHistory() throws {
    let template = try ChatFixture().template("qwen3")
    let messages: [Message] = [
      .user("1 + 1?"), .assistant("<think>\nOne.\n</think>\n\n2"), .user("2 + 2?"),
      .assistant("<think>\nTwo.\n</think>\n\n4"),
    ]
    let error = #expect(throws: ChatTemplateError.self) { try template.renderForTraining(messages: messages) }
    #expect(error?.message.contains("message 1 (assistant) cannot be located") == true)
    let text = try template.renderForTraining(messages: messages, unlocatedTurns: .skip)
    #expect(text.skippedTurns == [1])
    #expect(parts(text) == ["<think>\nTwo.\n</think>\n\n4<|im_end|>\n"])
  }

  @Test("a template that does not write a plain text is an error, not an empty lesson")
  func unwrittenContent() throws {
    let template = try ChatFixture().template("smolvlm")
    let error = #expect(throws: ChatTemplateError.self) {
      try template.renderForTraining(messages: [.user("Hi"), .assistant("Hello")])
    }
    #expect(error?.message.contains("it may want a list of parts") == true)
  }

  @Test("an injected default system prompt and tools belong to no turn")
  func injected() throws {
    let template = try ChatFixture().template("qwen2.5")
    let text = try template.renderForTraining(messages: [.user("Hi"), .assistant("Hello")])
    #expect(text.text.contains("You are Qwen"))
    #expect(parts(text) == ["Hello<|im_end|>\n"])
  }

  @Test("calls of tools are supervised, their results are not")
  func toolCalls() throws {
    let fixture = try ChatFixture()
    let conversation = try #require(fixture.conversations["one tool call"])
    let text = try fixture.template("qwen2.5").renderForTraining(
      messages: (conversation["messages"]?.arrayValue ?? []).map { try Message($0) },
      tools: conversation["tools"]?.arrayValue)
    let parts = parts(text)
    #expect(parts.count == 2)
    #expect(parts[0].contains("<tool_call>\n{\"name\": \"search\"") && parts[0].hasSuffix("<|im_end|>\n"))
    #expect(parts[1] == "Found.<|im_end|>\n")
  }

  @Test("a conversation without an assistant's turn is an error")
  func noAssistant() throws {
    let template = try ChatFixture().template("chatml")
    let error = #expect(throws: ChatTemplateError.self) {
      try template.renderForTraining(messages: [.user("Hi")])
    }
    #expect(error?.message == "the conversation has no assistant's turn to learn from")
  }
}
