import Testing
import Training

@Test("weight decay spares the parameters that transformers spares")
func weightDecayEqualsTransformers() throws {
  let reference = try #require(try Fixture.json("weight_decay.json").objectValue)
  #expect(reference.count > 10)
  for (path, decays) in reference {
    #expect(WeightDecayRule.applies(to: path) == decays.boolValue, "\(path)")
  }
  #expect(!WeightDecayRule.applies(to: "transformer.h.0.ln_1.weight", isInLayerNorm: true))
}
