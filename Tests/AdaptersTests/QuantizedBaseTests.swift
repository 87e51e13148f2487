import Adapters
import Formats
import Foundation
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Every adapter of the shared suite on every storage: what it computes is what it computes on the same numbers held dense.

@Suite struct QuantizedBaseTests {
  /// The linear layers of a model in one quantized form; both models hold the same numbers.
  private func quantize(_ model: any CausalLanguageModel, _ dense: any CausalLanguageModel, _ form: String)
    throws
  {
    for (path, module) in model.namedModules() {
      guard let layer = module as? Linear, layer !== model.outputEmbedding,
        let other = dense.module(at: path) as? Linear
      else { continue }
      let weight = try layer.weight.dense()
      layer.weight =
        try form == "int8"
        ? Int8Weight(quantizing: weight)
        : FourBitWeight(
          quantizing: weight, encoding: form == "fp4" ? .fp4 : .nf4, doubleQuantization: form == "nf4-double")
      try other.weight.replace(with: layer.weight.dense())
    }
    // A table in few bits, too, as GGUF files have it.
    let table = try QuantizedMatrix(int8: model.inputEmbedding.dense())
    try dense.inputEmbedding.weight.value = table.dequantized(.float32)
    if model.tiesEmbeddings { model.outputEmbedding.weight = Int8Weight(table, dtype: .float32) }
    try model.inputEmbedding.setTable(table, dtype: .float32)
    try model.fuseProjections()
    try dense.fuseProjections()
  }

  private func outcome(_ model: PEFTModel, _ sequences: [[Int32]]) throws -> (
    loss: Double, gradients: [String: Tensor]
  ) {
    try RandomState.seed(3)
    let input = try ModelInput(sequences, device: testDevice)
    let hidden = try model.base.hiddenStates(input)
    let labels = sequences.flatMap { $0 }
    let loss = try causalLossSum(
      hidden: hidden,
      supervision: Supervision(labels: labels, offsets: input.layout.offsets, ignoreIndex: -100),
      head: model.base.head)
    try loss.backward()
    var gradients: [String: Tensor] = [:]
    for (key, parameter) in model.trainableParameters { gradients[key] = parameter.value.gradient }
    return (try loss.item(), gradients)
  }

  @Test(
    "an adapter trains on a quantized base as on the same numbers held dense", arguments: adapterFixtures,
    ["nf4", "nf4-double", "int8"])
  func training(_ name: String, _ form: String) throws {
    let adapter = try AdapterFixture(name)
    let (packed, plain) = (try base(adapter.baseName), try base(adapter.baseName))
    try quantize(packed, plain, form)
    let (one, other) = (try PEFTModel(packed), try PEFTModel(plain))
    if try adapter.configuration["peft_type"] == "FULL" {
      expectError("quantized form", "train an adapter") { try one.loadAdapter(adapter.path) }
      return
    }
    if try adapter.configuration["init_lora_weights"]?.stringValue == "loftq" {
      expectError("`init_lora_weights: loftq` quantizes the base by itself") {
        try one.loadAdapter(adapter.path)
      }
      return
    }
    try one.loadAdapter(adapter.path)
    try other.loadAdapter(adapter.path)
    let sequences = try adapter.sequences
    let (found, wanted) = (try outcome(one, sequences), try outcome(other, sequences))
    #expect(abs(found.loss - wanted.loss) < 1e-5 * abs(wanted.loss))
    #expect(found.gradients.keys.sorted() == wanted.gradients.keys.sorted() && !found.gradients.isEmpty)
    for (key, gradient) in wanted.gradients {
      let scale = max(try gradient.absolute().max().item(), 1e-6)
      let difference = try (#require(found.gradients[key]) - gradient).absolute().max().item()
      // fp32 sums in another order, through all layers.
      #expect(difference < 1e-4 * scale, "\(key)")
    }
  }
}
