import JSON
import Testing
import Tokenizers

@Suite struct ChatTemplateTests {
  @Test("the template and the special tokens come from tokenizer_config.json")
  func configuration() throws {
    let template = try ChatTemplate(tokenizerConfig: [
      "chat_template": "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{{ pad_token is defined }}",
      "bos_token": "<s>", "eos_token": ["__type": "AddedToken", "content": "</s>"], "pad_token": nil,
    ])
    #expect(try template.render(messages: [.user("x")]) == "<s>x</s>False")
  }

  @Test("of several templates tools choose `tool_use`, a name chooses its own, and a file goes first")
  func several() throws {
    let config: JSONValue = [
      "chat_template": [
        ["name": "default", "template": "default"], ["name": "tool_use", "template": "tools"],
        ["name": "rag", "template": "rag"],
      ]
    ]
    let template = try ChatTemplate(tokenizerConfig: config)
    #expect(try template.render(messages: []) == "default")
    #expect(try template.render(messages: [], tools: [["name": "f"]]) == "tools")
    #expect(try ChatTemplate(tokenizerConfig: config, name: "rag").render(messages: []) == "rag")
    #expect(try ChatTemplate(tokenizerConfig: config, file: "file").render(messages: []) == "file")
    let error = #expect(throws: ChatTemplateError.self) {
      try ChatTemplate(tokenizerConfig: config, name: "x")
    }
    #expect(
      error?.message == "the model has no chat template \"x\"; it has \"default\", \"tool_use\", \"rag\"")
    let missing = #expect(throws: ChatTemplateError.self) { try ChatTemplate(tokenizerConfig: [:]) }
    #expect(missing?.message.hasPrefix("the model has no chat template; give one") == true)
  }

  @Test("a continued message stays open, with or without its trailing space")
  func continued() throws {
    let keeping = try ChatTemplate("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    #expect(
      try keeping.render(messages: [.user("a"), .assistant("b ")], continueFinalMessage: true) == "[a][b ")
    let trimming = try ChatTemplate("{% for m in messages %}[{{ m.content | trim }}]{% endfor %}")
    #expect(
      try trimming.render(messages: [.user("a"), .assistant("b ")], continueFinalMessage: true) == "[a][b")
    #expect(throws: ChatTemplateError.self) { try keeping.render(messages: [], continueFinalMessage: true) }
    #expect(throws: ChatTemplateError.self) {
      try keeping.render(messages: [.user("a")], addGenerationPrompt: true, continueFinalMessage: true)
    }
  }

  @Test("a message without a role says so")
  func message() throws {
    let error = #expect(throws: ChatTemplateError.self) { try Message(["from": "human", "value": "x"]) }
    #expect(error?.message == "a message has no \"role\"; its keys are \"from\", \"value\"")
    #expect(throws: ChatTemplateError.self) { try Message("text") }
    let message = try Message(["role": "tool", "content": "x", "tool_call_id": "1"])
    #expect(message["tool_call_id"] == "1" && message.content == "x")
  }
}
