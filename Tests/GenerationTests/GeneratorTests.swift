import Foundation
import Generation
import Models
import TestSupport
import Testing
import Tokenizers
import Torch

@Suite("Generator")
struct GeneratorTests {
  static let models = Fixture.generatingModels()

  private func load(_ name: String = "llama-grouped-query") throws -> any CausalLanguageModel {
    try AutoModelForCausalLM.fromPretrained(
      Fixture.models.appending(path: name).path, dtype: .float32, device: testDevice)
  }

  @Test("there are tiny models of many kinds")
  func fixtures() { #expect(Self.models.count >= 20) }

  @Test(
    "prompts of different lengths at once are continued as transformers continues each alone",
    arguments: models)
  func greedy(name: String) throws {
    let prompts = try Fixture.tokens(name, "input_ids")
    let expected = try Fixture.tokens(name, "generated")
    let outputs = try Generator(load(name)).generate(
      prompts, GenerationConfig(maxNewTokens: expected[0].count, eosTokenIDs: []))
    #expect(outputs.map(\.tokens) == expected)
    #expect(outputs.allSatisfy { $0.finishReason == .length })
    #expect(outputs.map(\.promptTokenCount) == prompts.map(\.count))
  }

  @Test("the batch size changes nothing but the order of work")
  func batchSize() throws {
    let prompts = try Fixture.tokens("llama-grouped-query", "input_ids")
    let expected = try Fixture.tokens("llama-grouped-query", "generated")
    let generator = Generator(try load())
    for size in [1, 2] {
      let outputs = try generator.generate(
        prompts, GenerationConfig(maxNewTokens: expected[0].count, eosTokenIDs: []), batchSize: size)
      #expect(outputs.map(\.tokens) == expected)
      #expect(generator.statistics.promptTokens == prompts.reduce(0) { $0 + $1.count })
      #expect(generator.statistics.decodedTokens == expected.reduce(0) { $0 + $1.count - 1 })
    }
  }

  @Test("a sequence that has ended leaves the batch, and the others go on as before", arguments: models)
  func leaving(name: String) throws {
    let prompts = try Fixture.tokens(name, "input_ids")
    let expected = try Fixture.tokens(name, "generated")
    // Each sequence's fourth token ends whichever sequence it comes in.
    let ends = expected.map { $0[3] }
    let cut = expected.map { tokens in
      Array(tokens[...(tokens.firstIndex { ends.contains($0) } ?? tokens.count - 1)])
    }
    #expect(cut.contains { $0.count < expected[0].count })
    let outputs = try Generator(load(name)).generate(
      prompts, GenerationConfig(maxNewTokens: expected[0].count, eosTokenIDs: ends))
    #expect(outputs.map(\.tokens) == cut)
    for output in outputs where output.tokens.count < expected[0].count {
      #expect(output.finishReason == .endOfSequence(output.tokens.last!))
    }
  }

  @Test("the same seed draws the same tokens, whatever else is in the batch; another one draws others")
  func seeds() throws {
    let prompts = try Fixture.tokens("llama-grouped-query", "input_ids")
    let generator = Generator(try load())
    func draw(_ seed: UInt64, batchSize: Int? = nil) throws -> [[Int32]] {
      try generator.generate(
        prompts,
        GenerationConfig(
          maxNewTokens: 16, eosTokenIDs: [], doSample: true, seed: seed, temperature: 3, topK: 0),
        batchSize: batchSize
      ).map(\.tokens)
    }
    let first = try draw(1)
    #expect(try draw(1) == first)
    #expect(try draw(1, batchSize: 1) == first)
    #expect(try draw(2) != first)
  }

  @Test("tokens are drawn as often as their probability says")
  func frequencies() throws {
    // The same prompt many times: each copy draws its first token from a generator of its own.
    let model = try load()
    let prompt = try Fixture.tokens("llama-grouped-query", "input_ids")[0]
    let count = 4000
    let config = GenerationConfig(
      maxNewTokens: 1, eosTokenIDs: [], doSample: true, seed: 5, temperature: 1.5, topK: 6)
    var drawn: [Int32: Int] = [:]
    for output in try Generator(model).generate(Array(repeating: prompt, count: count), config) {
      drawn[output.tokens[0], default: 0] += 1
    }
    let scores = try withoutGradient { try model.nextTokenLogits(ModelInput([prompt], device: testDevice)) }
    let sequence = [TokenSequence(prompt: prompt)]
    let probabilities = try LogitsProcessors.of(config, eosTokens: []).reduce(scores) { try $1($0, sequence) }
      .softmax().doubles()
    #expect(probabilities.filter { $0 > 0 }.count == 6)
    // Pearson's statistic has 5 degrees of freedom; 20.5 is its 0.999 quantile.
    let statistic = probabilities.enumerated().filter { $1 > 0 }.reduce(0.0) { sum, entry in
      let expected = entry.element * Double(count)
      let difference = Double(drawn[Int32(entry.offset)] ?? 0) - expected
      return sum + difference * difference / expected
    }
    #expect(statistic < 20.5)
    #expect(drawn.values.reduce(0, +) == count)
  }

  @Test("a conversation whose beginning has been read is continued as one that has not")
  func conversation() throws {
    let model = try load()
    let config = GenerationConfig(maxNewTokens: 8, eosTokenIDs: [])
    let (fresh, continued) = (Generator(model), Generator(model))
    continued.conversation = ReadPrefix(model)
    let start = try Fixture.tokens("llama-grouped-query", "input_ids")[1]
    var prompt = start
    var read: [Int] = []
    // The answer is taken over but for its end; then the conversation begins again; then it is the same prompt twice.
    for turn in 0..<5 {
      let expected = try fresh.generate([prompt], config)
      #expect(try continued.generate([prompt], config) == expected)
      read.append(continued.statistics.promptTokens)
      switch turn {
      case 0, 1: prompt += expected[0].tokens.dropLast(2) + [3, 4]
      case 2: prompt = Array(start.dropLast(5)) + [7]
      default: break
      }
    }
    #expect(read == [23, 2, 2, 1, 1])
  }

  @Test("cancelling ends answers as they are")
  func cancelling() throws {
    let prompts = try Fixture.tokens("llama-grouped-query", "input_ids")
    let expected = try Fixture.tokens("llama-grouped-query", "generated")
    var asked = 0
    let outputs = try Generator(load()).generate(
      prompts, GenerationConfig(maxNewTokens: 12, eosTokenIDs: []),
      isCancelled: {
        asked += 1
        return asked > 4
      })
    #expect(outputs.map(\.tokens) == expected.map { Array($0[..<4]) })
    #expect(outputs.allSatisfy { $0.finishReason == .cancelled })
  }

  @Test("an answer ends where the model's context ends")
  func context() throws {
    let model = try load()
    let prompt = Array(repeating: Int32(5), count: model.contextLength - 3)
    let output = try Generator(model).generate([prompt], GenerationConfig(maxNewTokens: 50, eosTokenIDs: []))[
      0]
    #expect(output.tokens.count == 3)
    #expect(output.finishReason == .contextLength)
  }

  @Test("prompts and settings that cannot be are refused with the reason")
  func refusals() throws {
    let generator = Generator(try load())
    func message(_ prompts: [[Int32]], _ config: GenerationConfig = .init()) -> String {
      do {
        _ = try generator.generate(prompts, config)
        return "no error"
      } catch {
        return "\(error)"
      }
    }
    #expect(message([[3], []]).hasPrefix("Prompt 2 has no tokens"))
    #expect(message([[3, 80]]).contains("has the token 80, and the model knows those from 0 to 79"))
    #expect(message([[-1]]).contains("the token -1"))
    #expect(
      message([Array(repeating: 3, count: 64)]).contains("has 64 tokens, and the model's context ends at 64"))
    #expect(message([[3]], GenerationConfig(doSample: true, temperature: 0)).contains("`temperature`"))
    #expect(message([[3]], GenerationConfig(topP: 1.5)).contains("`top_p`"))
    #expect(message([[3]], GenerationConfig(stopStrings: ["x"])).contains("tokenizer"))
  }

  @Test("pieces of text, joined, are the answer, and a stop string across tokens ends it")
  func text() throws {
    // GPT-2's tokens of this fixture are beyond 80, so each token stands for a byte or a short piece of text.
    let tokenizer = try ChatTokenizer(
      Tokenizer(tokenizerJSON: Data(contentsOf: Fixture.tokenizers.appending(path: "gpt2.json"))),
      chatTemplate: nil)
    let prompts = try Fixture.tokens("llama-grouped-query", "input_ids")
    let generator = Generator(try load(), tokenizer: tokenizer)
    var pieces = [String](repeating: "", count: prompts.count)
    let whole = try generator.generate(prompts, GenerationConfig(maxNewTokens: 12, eosTokenIDs: [])) {
      pieces[$0] += $1
    }
    #expect(whole.map(\.text) == pieces)
    for output in whole { #expect(output.text == tokenizer.decode(output.tokens)) }

    let text = try #require(whole.map(\.text).first { $0.count >= 6 })
    let characters = Array(text)
    let stop = String(characters[3...4])
    pieces = [String](repeating: "", count: prompts.count)
    let stopped = try generator.generate(
      prompts, GenerationConfig(maxNewTokens: 12, eosTokenIDs: [], stopStrings: [stop])
    ) { pieces[$0] += $1 }
    #expect(stopped.map(\.text) == pieces)
    for (output, before) in zip(stopped, whole) {
      if let range = before.text.range(of: stop) {
        #expect(output.text == String(before.text[..<range.lowerBound]))
        #expect(output.finishReason == .stopString(stop))
        #expect(output.tokens.count <= before.tokens.count)
      } else {
        #expect(output.text == before.text)
      }
    }
    #expect(stopped.contains { $0.finishReason == .stopString(stop) })
  }
}
