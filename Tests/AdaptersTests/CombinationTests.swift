import Adapters
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// Weighted combinations of adapters against PEFT's add_weighted_adapter; see Fixtures/make_lora_fixtures.py.

@Suite struct CombinationTests {
  private static let facts = (try? readJSON(fixture("combinations/combinations.json"))) ?? .null
  static let names = facts["combinations"]?.objectValue.map { Array($0.keys) } ?? []

  /// The mask of the fixtures: element i is kept when (7 i) mod 10 is below 10 · density.
  private static func kept(_ shape: [Int], _ density: Double) throws -> Tensor {
    let count = shape.reduce(1, *)
    let limit = Int((10 * density).rounded())
    return try Tensor((0..<count).map { Float($0 * 7 % 10 < limit ? 1 : 0) }, shape: shape)
  }

  private func model(_ adapters: [String]) throws -> PEFTModel {
    let model = try PEFTModel(base("llama-grouped-query"))
    for name in adapters { try model.loadAdapter(fixture("combinations/\(name)").path, name: name) }
    return model
  }

  private func adapters(_ facts: JSONValue) -> [String] {
    facts["adapters"]?.arrayValue?.compactMap(\.stringValue) ?? []
  }

  private func combination(_ facts: JSONValue) throws -> AdapterCombination {
    AdapterCombination(
      try #require(CombinationType(rawValue: facts["combination_type"]?.stringValue ?? "")),
      weights: facts["weights"]?.arrayValue?.compactMap(\.doubleValue) ?? [],
      svdRank: facts["svd_rank"]?.intValue, svdClamp: facts["svd_clamp"]?.doubleValue,
      density: facts["density"]?.doubleValue,
      majoritySign: MajoritySign(rawValue: facts["majority_sign_method"]?.stringValue ?? "total") ?? .total)
  }

  @Test("every type has a fixture")
  func complete() throws {
    let types = Set(
      Self.names.compactMap { Self.facts["combinations"]?[$0]?["combination_type"]?.stringValue })
    #expect(types == Set(CombinationType.allCases.map(\.rawValue)))
  }

  @Test("a combination is PEFT's", arguments: names)
  func combination(_ name: String) throws {
    let facts = try #require(Self.facts["combinations"]?[name])
    let expected = try SafetensorsFile(fixture("combinations/expected.safetensors"))
    let model = try model(adapters(facts))
    try model.addWeightedAdapter(
      adapters(facts), name: "combined", combination(facts), mask: Self.kept)
    try model.setAdapter("combined")
    let configuration = try #require(model.configuration("combined") as? LoRAConfig)
    #expect(configuration.r == facts["r"]?.intValue)
    if case .names(let targets)? = configuration.targets.targetModules {
      #expect(targets.sorted() == facts["targets"]?.arrayValue?.compactMap(\.stringValue))
    } else {
      Issue.record("no names")
    }

    let values = Dictionary(
      uniqueKeysWithValues: model.trainableParameters.map { ($0.key, $0.parameter.value) })
    let wanted = expected.tensorNames.filter { $0.hasPrefix("\(name)/") }
    #expect(!wanted.isEmpty)
    for key in wanted {
      let path = String(key.dropFirst(name.count + 1))
      if path.hasSuffix(".product") {
        let module = path.dropLast(".product".count)
        let a = try #require(values["\(module).lora_A.weight"] ?? values["\(module).lora_embedding_A"])
        let b = try #require(values["\(module).lora_B.weight"] ?? values["\(module).lora_embedding_B"])
        let product = try withoutGradient { try b.matmul(a) }
        #expect(try relativeError(product, expected.tensor(key)) < 2e-5, "\(key)")
      } else {
        // PEFT fills what the sum of ranks leaves free with zeros.
        let (found, all) = (try #require(values[path]).detached(), try expected.tensor(key))
        let filled = try all.slice(0..<found.size(0)).slice(0..<found.size(1), dimension: 1)
        #expect(try relativeError(found, filled) < 1e-5, "\(key)")
        let (whole, part) = (try all.absolute().sum().item(), try filled.absolute().sum().item())
        #expect(abs(whole - part) < 1e-5 * whole, "\(key)")
      }
    }
  }

  @Test("combined from files alone, the adapter is the same, and loads")
  func files() throws {
    let facts = try #require(Self.facts["combinations"]?["cat"])
    let names = adapters(facts)
    try withTemporaryFolder { folder in
      let output = folder.appendingPathComponent("combined")
      try combination(facts).write(names.map { fixture("combinations/\($0)") }, to: output)
      let model = try model(names)
      try model.addWeightedAdapter(names, name: "combined", combination(facts))
      let input = try ModelInput([[5, 6, 7, 8, 9]], device: testDevice)
      func logits(_ model: PEFTModel, _ name: String) throws -> Tensor {
        try model.setAdapter(name)
        return try withoutGradient { try model.base.logits(input) }
      }
      let wanted = try logits(model, "combined")
      let again = try PEFTModel(base("llama-grouped-query"))
      try again.loadAdapter(output.path)
      #expect(try logits(again, "default").floats() == wanted.floats())
      #expect(try relativeError(wanted, logits(model, "one")) > 1e-3)
    }
  }

  @Test("(IA)³'s vectors are summed as PEFT sums them, on a model and from files alone")
  func ia3() throws {
    let adapter = try AdapterFixture("ia3-combination")
    let weights = adapter.facts["weights"]?.arrayValue?.compactMap(\.doubleValue) ?? []
    let names = ["one", "two"]
    let model = try PEFTModel(base(adapter.baseName))
    for name in names { try model.loadAdapter("\(adapter.path)/\(name)", name: name) }
    for type in [nil, CombinationType.linear] {
      try model.addWeightedAdapter(names, name: "sum", AdapterCombination(type, weights: weights))
      try model.setAdapter("sum")
      let values = Dictionary(
        uniqueKeysWithValues: model.trainableParameters.map { ($0.key, $0.parameter.value) })
      let wanted = adapter.expected.tensorNames.filter { $0.hasPrefix("combined/") }
      #expect(Set(wanted.map { String($0.dropFirst("combined/".count)) }) == Set(values.keys))
      for (key, value) in values {
        #expect(
          try relativeError(value.detached(), adapter.expected.tensor("combined/\(key)")) < 1e-6, "\(key)")
      }
      #expect(try adapter.error(model.base, "logits") < 1e-5)
      let settings = try #require(model.configuration("sum") as? IA3Config)
      for (selection, key) in [
        (settings.targetModules, "target_modules"), (settings.feedforwardModules, "feedforward_modules"),
      ] {
        guard case .names(let found)? = selection else {
          Issue.record("\(key): no names")
          continue
        }
        #expect(found.sorted() == adapter.facts[key]?.arrayValue?.compactMap(\.stringValue))
      }
      try model.deleteAdapter("sum")
    }
    try withTemporaryFolder { folder in
      let output = folder.appendingPathComponent("sum")
      try AdapterCombination(weights: weights).write(
        names.map { fixture("ia3-combination/\($0)") }, to: output)
      let again = try PEFTModel(base(adapter.baseName))
      try again.loadAdapter(output.path)
      #expect(try adapter.error(again.base, "logits") < 1e-5)
    }
  }

  @Test("`cat` with weights of one is what the adapters do together")
  func exactness() throws {
    let model = try model(["one", "two", "three"])
    try model.addWeightedAdapter(
      ["one", "two", "three"], name: "sum", AdapterCombination(.cat, weights: [1, 1, 1]))
    let input = try ModelInput([[5, 6, 7, 8, 9]], device: testDevice)
    try model.setAdapters(["one", "two", "three"])
    let together = try withoutGradient { try model.base.logits(input) }
    try model.setAdapter("sum")
    #expect(try relativeError(withoutGradient { try model.base.logits(input) }, together) < 1e-5)
  }

  @Test("DARE drops the share it says, the same for the same seed, and keeps the mean")
  func dare() throws {
    let model = try model(["one"])
    try model.addAdapter("twin", model.configuration("one")!)
    func combined(_ seed: UInt64, _ name: String) throws -> [Float] {
      try model.addWeightedAdapter(
        ["one", "twin"], name: name,
        AdapterCombination(.dareLinear, weights: [1, 0], density: 0.5, seed: seed))
      try model.setAdapter(name)
      return try model.trainableParameters.first { $0.key.hasSuffix("lora_embedding_A") }!.parameter.value
        .floats()
    }
    let first = try combined(1, "a")
    #expect(try combined(1, "b") == first)
    #expect(try combined(2, "c") != first)
    let dropped = Double(first.count { $0 == 0 }) / Double(first.count)
    #expect(abs(dropped - 0.5) < 4 * (0.25 / Double(first.count)).squareRoot())
  }

  @Test("what cannot be combined is refused with the reason, and the model is as before")
  func errors() throws {
    let model = try model(["one", "two", "wide"])
    try model.addAdapter("dora", LoRAConfig(useDoRA: true))
    try model.addAdapter("pissa", LoRAConfig(r: 2, initLoRAWeights: .pissa))
    try model.addAdapter("head", LoRAConfig(r: 2, modulesToSave: ["lm_head"]))
    try model.addAdapter("head2", LoRAConfig(r: 2, modulesToSave: ["lm_head"]))
    func refused(
      _ adapters: [String], _ combination: AdapterCombination, _ part: String, _ other: String,
      location: SourceLocation = #_sourceLocation
    ) {
      expectError(part, other, location: location) {
        try model.addWeightedAdapter(adapters, name: "new", combination)
      }
      #expect(!model.adapterNames.contains("new"), sourceLocation: location)
    }
    refused(["one", "two"], .init(.cat, weights: [1]), "1 `weights`", "2 adapters")
    refused([], .init(.cat, weights: []), "no adapter", "name")
    refused(["one", "nobody"], .init(.cat, weights: [1, 1]), "`nobody`", "no adapter")
    refused(["one", "wide"], .init(.linear, weights: [1, 1]), "2, 3", "`cat`")
    refused(["one", "two"], .init(.ties, weights: [1, 1]), "`density`", "ties")
    refused(["one", "two"], .init(.dareLinear, weights: [1, 1], density: 0), "`density`", "dare_linear")
    refused(["one", "two"], .init(.svd, weights: [1, 1], svdRank: 0), "`svd_rank`", "1 or more")
    refused(["one", "two"], .init(.svd, weights: [1, 1], svdClamp: 2), "`svd_clamp`", "quantile")
    refused(["one", "dora"], .init(.cat, weights: [1, 1]), "`dora`", "`use_dora`")
    refused(["one", "pissa"], .init(.cat, weights: [1, 1]), "pissa", "graft convert")
    for (name, settings, reason) in [
      ("vera", VeRAConfig(r: 4), "do not add up"), ("oft", OFTConfig(oftBlockSize: 4), "rotations"),
      ("prompt", PromptTuningConfig(numVirtualTokens: 2), "virtual tokens"),
      ("norms", LNTuningConfig(), "only one can"),
    ] as [(String, any AdapterConfiguration, String)] {
      try model.addAdapter(name, settings)
      refused([name], .init(weights: [1]), "`\(name)`", reason)
      refused(
        ["one", name], .init(weights: [1, 1]), "LORA and \(type(of: settings).method.peftType)", "together")
    }
    try model.addAdapter("scales", IA3Config())
    refused(["scales"], .init(.svd, weights: [1]), "linear", "vectors")
    refused(["scales"], .init(weights: [1], density: 0.5), "linear", "other options")
    refused(["head", "head2"], .init(.cat, weights: [1, 1]), "`head2`", "`modules_to_save`")
    try model.addWeightedAdapter(
      ["one", "head"], name: "new", AdapterCombination(.cat, weights: [1, 1]))
    #expect(model.configuration("new")?.common.modulesToSave == ["lm_head"])
  }
}
