import Foundation
import Generation
import Models
import TestSupport
import Testing
import Torch

/// What is generated on a GPU in 16 bits, where attention to the cache takes another way than in fp32.
@Suite(
  "Generation on a GPU", .serialized,
  .enabled(if: (try? Engine.prepare(.cuda)) != nil, "the engine finds no CUDA device on this machine"))
struct CUDAGenerationTests {
  @Test(
    "tokens read one by one from the cache give the logits of reading all at once",
    arguments: ["llama-grouped-query", "qwen2-sliding"], [DType.float32, .bfloat16, .float16])
  func cache(_ name: String, _ dtype: DType) throws {
    let model = try AutoModelForCausalLM.fromPretrained(
      Fixture.models.appending(path: name).path, dtype: dtype, device: .cuda)
    let prompts = try Fixture.tokens(name, "input_ids")
    let continuation = try Fixture.tokens(name, "generated")
    // The types' bits, a few layers deep, behind attention made sharp.
    let tolerance = [DType.bfloat16: 5e-2, .float16: 1e-2][dtype] ?? 1e-5
    try withoutGradient {
      let cache = model.makeCache(sequenceCount: prompts.count)
      var read = prompts
      var next = prompts
      for step in 0..<4 {
        let found = try model.nextTokenLogits(ModelInput(next, cache: cache, device: .cuda))
        let wanted = try model.nextTokenLogits(ModelInput(read, device: .cuda))
        #expect(found.device.kind == .cuda)
        #expect(try relativeError(found, wanted) < tolerance, "step \(step)")
        next = continuation.map { [$0[step]] }
        for index in read.indices { read[index] += next[index] }
      }
    }
  }
}
