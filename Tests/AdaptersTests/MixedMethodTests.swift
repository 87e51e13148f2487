import Adapters
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Adapters of different methods on one base.

@Suite struct MixedMethodTests {
  /// One of every method that changes layers, all on the same base.
  private static let names = [
    "attention", "ia3-llama", "oft-cayley", "ln-tuning-llama", "vera-llama", "loha-llama", "lokr-llama",
    "boft-butterfly", "adalora-training-llama", "bitfit-created", "loftq-llama",
  ]

  private func loaded(_ names: [String]) throws -> PEFTModel {
    let model = try PEFTModel(base("llama-grouped-query"))
    for name in names { try model.loadAdapter(fixture(name).path, name: name) }
    return model
  }

  @Test("adapters of all methods on layers switch on one base, each with PEFT's logits")
  func switching() throws {
    let model = try loaded(Self.names)
    for name in Self.names + Self.names.reversed() {
      let adapter = try AdapterFixture(name)
      #expect(adapter.baseName == "llama-grouped-query")
      try model.setAdapter(name)
      #expect(try adapter.error(model.base, "logits") < 1e-5, "\(name)")
      try model.withAdaptersDisabled { () throws in
        #expect(try adapter.error(model.base, "base_logits") < 1e-5, "\(name)")
      }
    }
    try model.setAdapters([])
    let adapter = try AdapterFixture("attention")
    #expect(try adapter.logits(model.base) == adapter.logits(base("llama-grouped-query")))
  }

  @Test(
    "methods that are active together compute what they do merged one after the other",
    arguments: [
      ["attention", "ia3-llama"], ["ia3-llama", "attention"], ["attention", "oft-cayley"],
      ["oft-cayley", "attention"], ["loha-llama", "boft-butterfly", "lokr-llama"],
      ["vera-llama", "ln-tuning-llama", "adalora-training-llama"], ["loftq-llama", "attention"],
      ["attention", "loftq-llama", "ia3-llama"],
      ["loftq-llama"] + names.filter { $0 != "bitfit-created" && $0 != "loftq-llama" },
    ])
  func together(_ names: [String]) throws {
    let model = try loaded(names)
    let adapter = try AdapterFixture(names[0])
    func logits() throws -> Tensor {
      try withoutGradient { try model.base.logits(ModelInput(adapter.sequences, device: testDevice)) }
    }
    try model.setAdapters(names)
    let active = try logits()
    // More than the first of them alone.
    #expect(try adapter.error(model.base, "logits") > 1e-3)
    try model.mergeAdapter()
    #expect(model.mergedAdapters == names)
    let error = try relativeError(logits(), active)
    #expect(error < 5e-5, "\(error)")
    try model.unmergeAdapter()
    #expect(try relativeError(logits(), active) == 0)
  }

  @Test("an adapter on a base of its own making is not merged after one that turns the weight")
  func mergingOrder() throws {
    let model = try loaded(["oft-cayley", "loftq-llama"])
    try model.setAdapters(["oft-cayley", "loftq-llama"])
    expectError("`loftq-llama`", "`oft-cayley`", "Name loftq-llama first") { try model.mergeAdapter() }
    #expect(model.mergedAdapters.isEmpty && model.activeAdapters == ["oft-cayley", "loftq-llama"])
    try model.mergeAdapter(["loftq-llama", "oft-cayley"])
    try model.unmergeAdapter()
  }

  @Test("methods that are active together are trained together")
  func training() throws {
    let names = ["attention", "ia3-llama", "oft-cayley", "bitfit-created"]
    let model = try loaded(names)
    try model.setAdapters(names)
    let sequences = try AdapterFixture("attention").sequences
    let keys = model.trainableParameters.map(\.key)
    for name in names { #expect(keys.contains { $0.hasPrefix("\(name).") }, "\(name)") }
    let losses = try (0..<5).map { _ in try descend(model, sequences, by: 0.01) }
    #expect(try #require(losses.last) < losses[0] - 1e-3, "\(losses)")
  }
}
