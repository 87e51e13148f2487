import Foundation
import JSON
import Jinja
import OrderedCollections
import Testing
import Tokenizers

/// What transformers makes of real templates and a set of conversations.
struct ChatFixture {
  let conversations: OrderedDictionary<String, JSONValue>
  let expected: OrderedDictionary<String, JSONValue>
  let specialTokens: OrderedDictionary<String, String>

  static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Fixtures")

  /// The clock that the fixture was made with.
  static let options = RenderingOptions(
    now: Date(timeIntervalSince1970: 1_741_529_106), timeZone: TimeZone(secondsFromGMT: 0) ?? .current)

  init() throws {
    let json = try JSONValue(parsing: Data(contentsOf: Self.folder.appending(path: "expected.json")))
    conversations = try #require(json["conversations"]?.objectValue)
    expected = try #require(json["expected"]?.objectValue)
    specialTokens = try #require(json["special_tokens"]?.objectValue).compactMapValues(\.stringValue)
  }

  func template(_ name: String) throws -> ChatTemplate {
    let file = Self.folder.appending(path: "templates/\(name).jinja")
    return try ChatTemplate(
      String(decoding: Data(contentsOf: file), as: UTF8.self), specialTokens: specialTokens,
      options: Self.options)
  }
}

@Suite struct RealTemplateTests {
  @Test("every real template gives the text that transformers gives, or refuses what it refuses")
  func texts() throws {
    let fixture = try ChatFixture()
    #expect(fixture.expected.count > 25)
    #expect(fixture.conversations.count >= 8)
    var counts = (texts: 0, refusals: 0, errors: 0)
    for (name, results) in fixture.expected {
      let template = try fixture.template(name)
      for (title, result) in results.objectValue ?? [:] {
        let conversation = try #require(fixture.conversations[title])
        var variables = try #require(conversation.objectValue)
        for key in ["messages", "tools", "documents", "add_generation_prompt", "continue_final_message"] {
          variables[key] = nil
        }
        let outcome = Result {
          try template.render(
            messages: (conversation["messages"]?.arrayValue ?? []).map { try Message($0) },
            tools: conversation["tools"]?.arrayValue, documents: conversation["documents"]?.arrayValue,
            addGenerationPrompt: conversation["add_generation_prompt"]?.boolValue ?? false,
            continueFinalMessage: conversation["continue_final_message"]?.boolValue ?? false,
            variables: variables)
        }
        switch outcome {
        case .success(let text):
          let expected = result["text"]?.stringValue
          #expect(expected.map { Array($0.utf8) } == Array(text.utf8), "\(name), \(title): \(result)")
          counts.texts += 1
        case .failure(let error as TemplateError):
          if let message = result["raised"]?.stringValue {
            #expect(error.kind == .raised && error.message == message, "\(name), \(title)")
            counts.refusals += 1
          } else {
            #expect(result["error"] != nil, "\(name), \(title): \(error)")
            counts.errors += 1
          }
        case .failure(let error as ChatTemplateError):
          #expect(result["error"] != nil, "\(name), \(title): \(error)")
          counts.errors += 1
        case .failure(let error): Issue.record("\(name), \(title): \(error)")
        }
      }
    }
    print("chat templates: \(counts)")
    #expect(counts.texts > 1000 && counts.refusals > 50)
  }

  @Test("{% generation %} blocks lie where transformers finds them")
  func generation() throws {
    let fixture = try ChatFixture()
    var count = 0
    for (name, results) in fixture.expected {
      let template = try fixture.template(name)
      for (title, result) in results.objectValue ?? [:] {
        guard let generated = result["generated"]?.arrayValue, !generated.isEmpty else { continue }
        let conversation = try #require(fixture.conversations[title])
        guard conversation["add_generation_prompt"] == nil, conversation["continue_final_message"] == nil
        else {
          continue
        }
        let rendered = try template.renderForTraining(
          messages: (conversation["messages"]?.arrayValue ?? []).map { try Message($0) },
          tools: conversation["tools"]?.arrayValue)
        #expect(rendered.text == result["text"]?.stringValue)
        let ranges = generated.map { ($0[0]?.intValue ?? 0)..<($0[1]?.intValue ?? 0) }
        #expect(rendered.supervised == ranges.filter { !$0.isEmpty }, "\(name), \(title)")
        count += 1
      }
    }
    #expect(count >= 30)
  }
}
