import Foundation
import Generation
import JSON
import Models
import Testing

@Suite("Generation settings")
struct GenerationConfigTests {
  private func error(_ json: JSONValue) -> String {
    do {
      _ = try GenerationConfig(json: json, source: "generation_config.json")
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test("a published generation_config.json is read whole")
  func published() throws {
    let config = try GenerationConfig(
      json: [
        "bos_token_id": 151643, "pad_token_id": 151643, "do_sample": true, "eos_token_id": [151645, 151643],
        "repetition_penalty": 1.05, "temperature": 0.7, "top_p": 0.8, "top_k": 20,
        "transformers_version": "4.37.0",
      ], source: "x")
    #expect(
      config
        == GenerationConfig(
          eosTokenIDs: [151645, 151643], doSample: true, temperature: 0.7, topK: 20, topP: 0.8,
          repetitionPenalty: 1.05))
  }

  @Test("an empty file gives transformers' defaults")
  func defaults() throws {
    let config = try GenerationConfig(json: [:], source: "x")
    #expect(config == GenerationConfig())
    #expect(!config.doSample && config.temperature == 1 && config.topK == 50 && config.topP == 1)
  }

  @Test("settings that would change the text and are missing are refused; their neutral values are not")
  func missing() {
    #expect(error(["num_beams": 4]).contains("sets `num_beams` to 4, which Graft does not have"))
    #expect(error(["bad_words_ids": [[3]]]).contains("bad_words_ids"))
    #expect(error(["num_beams": 1, "eta_cutoff": 0.0, "guidance_scale": nil]) == "no error")
  }

  @Test("values of the wrong kind or out of range are refused by name")
  func wrong() {
    #expect(
      error(["top_k": "many"])
        == "`top_k` in generation_config.json is \"many\", where a whole number is wanted.")
    #expect(error(["eos_token_id": ["</s>"]]).contains("`eos_token_id`"))
    #expect(error(["repetition_penalty": 0]).contains("`repetition_penalty`"))
    #expect(error([1]).contains("not an object"))
  }

  @Test("a model's end tokens come from generation_config.json, else from config.json")
  func endTokens() throws {
    let model = Fixture.models.appending(path: "llama-grouped-query")
    #expect(try GenerationConfig.fromPretrained(PretrainedSource(model.path)).eosTokenIDs == [2])

    var files: [String: Data] = ["generation_config.json": Data(#"{"eos_token_id": [2, 9]}"#.utf8)]
    for name in ["config.json", "model.safetensors"] {
      files[name] = try Data(contentsOf: model.appending(path: name))
    }
    let folder = try Fixture.folder(files)
    defer { try? FileManager.default.removeItem(at: folder) }
    #expect(try GenerationConfig.fromPretrained(PretrainedSource(folder.path)).eosTokenIDs == [2, 9])
  }
}
