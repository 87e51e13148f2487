import Adapters
import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// The suite that every method goes through: each fixture is an adapter that PEFT saved, with what PEFT computes from it.

@Suite struct MethodTests {
  /// fp32 sums in another order than PyTorch's, relative to the largest logit.
  private let tolerance = 1e-5

  @Test("every method of the catalogue has fixtures")
  func catalogueIsCovered() throws {
    let types = try adapterFixtures.map {
      try readJSON(fixture($0).appendingPathComponent("adapter_config.json"))["peft_type"]?.stringValue
    }
    // What is no adapter has a folder of its own for its trainings.
    for method in AdapterMethod.catalogue {
      #expect(
        types.contains(method.peftType)
          || FileManager.default.fileExists(atPath: fixture(method.name).path), "\(method.peftType)")
    }
    #expect(adapterFixtures.count >= 29)
  }

  @Test("an adapter that PEFT saved gives PEFT's logits, on and off", arguments: adapterFixtures)
  func logits(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try adapter.load()
    #expect(try adapter.error(model.base, "logits") < tolerance)
    #expect(try adapter.error(model.base, "base_logits") > 1e-3)
    try model.withAdaptersDisabled { () throws in
      #expect(try adapter.error(model.base, "base_logits") < tolerance)
    }
    #expect(try adapter.error(model.base, "logits") < tolerance)
    try model.deleteAdapter("default")
    #expect(try adapter.error(model.base, "base_logits") < tolerance)
    #expect(try adapter.logits(model.base) == adapter.logits(base(adapter.baseName)))
  }

  @Test(
    "merged weights give the adapter's logits, and unmerging restores every bit", arguments: adapterFixtures)
  func merging(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try adapter.load()
    let before = try adapter.logits(model.base)
    if let reason = adapter.facts["unmergeable"]?.stringValue {
      expectError(reason) { try model.mergeAdapter() }
      #expect(model.mergedAdapters.isEmpty && model.activeAdapters == ["default"])
      #expect(try adapter.logits(model.base) == before)
      return
    }
    try model.mergeAdapter()
    #expect(model.mergedAdapters == ["default"] && model.activeAdapters.isEmpty)
    #expect(try adapter.error(model.base, "logits") < 2 * tolerance)
    if adapter.facts["merge_drift"] == nil, adapter.expected.contains("merged_logits.0") {
      #expect(try adapter.error(model.base, "merged_logits") < 2 * tolerance)
    }
    try model.unmergeAdapter()
    #expect(model.mergedAdapters.isEmpty && model.activeAdapters == ["default"])
    #expect(try adapter.logits(model.base) == before)
    try model.setAdapters([])
    try expectSameParameters(model.base, base(adapter.baseName))
  }

  @Test("unloading leaves the merged base alone", arguments: adapterFixtures)
  func unloading(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    guard adapter.facts["unmergeable"] == nil else { return }
    let merged = try adapter.load().mergeAndUnload()
    #expect(try adapter.error(merged, "logits") < 2 * tolerance)
    for (path, module) in merged.namedModules() {
      #expect((module as? Linear)?.adapters.isEmpty ?? true, "\(path)")
      #expect((module as? Embedding)?.adapters.isEmpty ?? true, "\(path)")
    }
    #expect(merged.parameters().allSatisfy { !$0.isTrainable })
  }

  private func expectSameParameters(
    _ found: any PretrainedModel, _ wanted: any PretrainedModel,
    location: SourceLocation = #_sourceLocation
  ) throws {
    let (ours, theirs) = (found.namedParameters(), wanted.namedParameters())
    #expect(ours.map(\.path) == theirs.map(\.path), sourceLocation: location)
    for (one, other) in zip(ours, theirs) {
      #expect(
        try one.parameter.value.floats() == other.parameter.value.floats(), "\(one.path)",
        sourceLocation: location)
    }
    #expect(found.tiesEmbeddings == wanted.tiesEmbeddings, sourceLocation: location)
  }

  @Test("the same modules are matched, and the same parameters counted", arguments: adapterFixtures)
  func counts(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    guard let matched = adapter.facts["matched"]?.arrayValue else { return }
    let model = try adapter.load()
    #expect(try model.targets("default") == matched.compactMap(\.stringValue))
    // Of some methods, a file does not hold all that is trained.
    guard adapter.facts["loaded_line"] == nil else {
      #expect(model.trainableParametersLine == adapter.facts["loaded_line"]?.stringValue)
      return
    }
    #expect(model.trainableParametersLine == adapter.facts["line"]?.stringValue)
    #expect(model.trainableParameters.count == adapter.facts["trainable"]?.arrayValue?.count)
    guard adapter.facts["unmergeable"] == nil else { return }
    try model.mergeAdapter()
    try model.unmergeAdapter()
    #expect(model.trainableParametersLine == adapter.facts["line"]?.stringValue)
  }

  // MARK: Files

  @Test("saving writes the tensors that PEFT wrote", arguments: adapterFixtures)
  func savedTensors(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    try withTemporaryFolder { folder in
      try adapter.load().savePretrained(folder.path)
      let found = try SafetensorsFile(folder.appendingPathComponent("adapter_model.safetensors"))
      let wanted = try Checkpoint.open(fixture(name))
      #expect(Set(found.tensorNames) == Set(wanted.tensorNames))
      #expect(found.metadata == ["format": "pt"])
      for tensor in wanted.tensorNames {
        let (one, other) = (try found.storedTensor(tensor), try wanted.storedTensor(tensor))
        #expect(one.shape == other.shape, "\(tensor)")
        // What was saved in bf16 is trained, and saved again, in fp32.
        #expect(one.type == .dense(.float32), "\(tensor)")
        #expect(try one.floats() == other.floats(), "\(tensor)")
      }
    }
  }

  @Test("saving writes the settings that PEFT wrote", arguments: adapterFixtures)
  func savedConfiguration(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    try withTemporaryFolder { folder in
      try adapter.load().savePretrained(folder.path)
      let found = try readJSON(folder.appendingPathComponent("adapter_config.json"))
      for (key, value) in try #require(adapter.configuration.objectValue) where !value.isNull {
        if let list = value.arrayValue,
          ["target_modules", "exclude_modules", "modules_to_save"].contains(key)
        {
          // Sets in Python: their order says nothing.
          #expect(
            Set(found[key]?.arrayValue?.compactMap(\.stringValue) ?? [])
              == Set(list.compactMap(\.stringValue)),
            "\(key)")
        } else if key == "layers_pattern" || key == "layers_to_transform" {
          // One of them may stand without its brackets.
          #expect(found[key] == value || found[key] == [value], "\(key)")
        } else if let numbers = value.objectValue, numbers.values.allSatisfy({ $0.doubleValue != nil }) {
          // In whatever order, 6 for 6.0.
          let ours = found[key]?.objectValue ?? [:]
          #expect(Set(ours.keys) == Set(numbers.keys), "\(key)")
          for (name, number) in numbers { #expect(ours[name]?.doubleValue == number.doubleValue, "\(key)") }
        } else if let number = value.doubleValue {
          #expect(found[key]?.doubleValue == number, "\(key)")
        } else {
          #expect(found[key] == value, "\(key)")
        }
      }
      let readme = try String(contentsOf: folder.appendingPathComponent("README.md"), encoding: .utf8)
      #expect(readme.contains("library_name: peft"))
      // Keys in the order in which PEFT writes them.
      let text = try String(contentsOf: folder.appendingPathComponent("adapter_config.json"), encoding: .utf8)
      let keys = text.split(separator: "\n").compactMap { line in
        line.hasPrefix("  \"") ? line.split(separator: "\"")[1] : nil
      }
      #expect(keys == keys.sorted())
    }
  }

  @Test("saved and loaded again, an adapter computes the same bits", arguments: adapterFixtures)
  func roundTrip(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try adapter.load()
    let before = try adapter.logits(model.base)
    try withTemporaryFolder { folder in
      // Inactive or active, it is the adapter that is saved, not what it stands in for.
      for active in [["default"], []] {
        try model.setAdapters(active)
        try model.savePretrained(folder.path)
        let again = try PEFTModel(base(adapter.baseName))
        try again.loadAdapter(folder.path)
        #expect(try adapter.logits(again.base) == before)
      }
      #expect(
        try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted() == [
          "README.md", "adapter_config.json", "adapter_model.safetensors",
        ])
    }
  }

  // MARK: Training

  @Test("a new adapter changes nothing until it is trained", arguments: adapterFixtures)
  func identity(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let configuration = try PEFTModel.readConfiguration(fixture(name))
    let model = try PEFTModel(base(adapter.baseName), configuration)
    let isBase = adapter.facts["identity"]?.boolValue ?? true
    #expect(try !isBase || adapter.error(model.base, "base_logits") < tolerance)
    if let matched = adapter.facts["matched"]?.arrayValue {
      #expect(try model.targets("default") == matched.compactMap(\.stringValue))
      #expect(model.trainableParametersLine == adapter.facts["line"]?.stringValue)
    }

    // Beside another that is at work, a new one still copies the base's own values.
    let second = try adapter.load()
    try second.addAdapter("second", configuration)
    #expect(second.activeAdapters == ["default"])
    #expect(try adapter.error(second.base, "logits") < tolerance)
    try second.setAdapter("second")
    #expect(try !isBase || adapter.error(second.base, "base_logits") < tolerance)
    try second.setAdapter("default")
    #expect(try adapter.error(second.base, "logits") < tolerance)
  }

  @Test("every parameter of the adapter gets a gradient, and no other", arguments: adapterFixtures)
  func gradients(_ name: String) throws {
    let adapter = try AdapterFixture(name)
    let model = try adapter.load()
    let original = try base(adapter.baseName)
    var gradients: [[Float]] = []
    for checkpointing in [false, true] {
      model.base.usesGradientCheckpointing = checkpointing
      let loss = try loss(model.base, adapter.sequences)
      try loss.backward()
      gradients = try gradients.isEmpty ? collect() : gradients
      // The second forward pass repeats the first to the bit, so the gradients do.
      #expect(try collect() == gradients, "checkpointing \(checkpointing)")
      for (_, parameter) in model.trainableParameters { try parameter.value.setGradient(nil) }
    }
    func collect() throws -> [[Float]] {
      // A layer that AdaLoRA took all ranks from has parameters without elements.
      try model.trainableParameters.filter { $0.parameter.count > 0 }.map { key, parameter in
        let gradient = try #require(parameter.value.gradient, "\(key) has no gradient")
        #expect(try gradient.absolute().max().item() > 0, "\(key)")
        return try gradient.floats()
      }
    }
    #expect(model.trainableParameters.allSatisfy { $0.parameter.isTrainable })
    #expect(model.trainableParameters.allSatisfy { $0.parameter.value.dtype == .float32 })
    try model.setAdapters([])
    for (path, parameter) in model.base.namedParameters() {
      #expect(!parameter.isTrainable && parameter.value.gradient == nil, "\(path)")
    }
    try expectSameParameters(model.base, original)
  }

  // MARK: Several adapters

  @Test("adapters switch, each with PEFT's logits, and are saved in folders of their names")
  func twoAdapters() throws {
    let adapter = try AdapterFixture("two-adapters")
    let model = try adapter.load()
    try model.loadAdapter(fixture("two-adapters/second").path, name: "second")
    #expect(model.adapterNames == ["default", "second"])
    #expect(model.activeAdapters == ["default"])
    for _ in 0..<2 {
      for (name, key) in [("default", "logits"), ("second", "second_logits")] {
        try model.setAdapter(name)
        #expect(try adapter.error(model.base, key) < tolerance)
        let matched = adapter.facts["\(name)_matched"]?.arrayValue?.compactMap(\.stringValue)
        #expect(try model.targets(name) == matched)
      }
      try model.withAdaptersDisabled { () throws in
        #expect(try adapter.error(model.base, "base_logits") < tolerance)
      }
    }

    try withTemporaryFolder { folder in
      try model.savePretrained(folder.path)
      let again = try PEFTModel(base(adapter.baseName))
      try again.loadAdapter(folder.path)
      try again.loadAdapter(folder.appendingPathComponent("second").path, name: "second")
      #expect(try adapter.error(again.base, "logits") < tolerance)
      try again.setAdapter("second")
      #expect(try adapter.error(again.base, "second_logits") < tolerance)
    }

    // Together, what they add is summed: as two merges of one after the other.
    try model.setAdapters(["second", "default"])
    let together = try withoutGradient {
      try model.base.logits(ModelInput(adapter.sequences, device: testDevice))
    }
    try model.mergeAdapter()
    let merged = try withoutGradient {
      try model.base.logits(ModelInput(adapter.sequences, device: testDevice))
    }
    #expect(try relativeError(merged, together) < 2 * tolerance)
    try model.unmergeAdapter()
    #expect(model.activeAdapters == ["second", "default"])
    try model.mergeAdapter(["second"])
    #expect(try adapter.error(model.base, "second_logits") < 2 * tolerance)
    try model.unmergeAdapter()
    try model.setAdapters([])
    try expectSameParameters(model.base, base(adapter.baseName))
  }

  @Test("names that are unknown, taken, repeated or no names change nothing")
  func names() throws {
    let adapter = try AdapterFixture("two-adapters")
    let model = try adapter.load()
    let before = try adapter.logits(model.base)
    func unchanged(location: SourceLocation = #_sourceLocation) throws {
      #expect(model.activeAdapters == ["default"], sourceLocation: location)
      #expect(model.adapterNames == ["default"], sourceLocation: location)
      #expect(try adapter.logits(model.base) == before, sourceLocation: location)
    }
    expectError("`nobody`", "default") { try model.setAdapter("nobody") }
    expectError("`nobody`") { try model.setAdapters(["default", "nobody"]) }
    expectError("`default`", "twice") { try model.setAdapters(["default", "default"]) }
    expectError("`nobody`") { try model.deleteAdapter("nobody") }
    expectError("`nobody`") { try model.mergeAdapter(["default", "nobody"]) }
    expectError("`default`", "twice") { try model.mergeAdapter(["default", "default"]) }
    expectError("`default`", "already") { try model.addAdapter("default", LoRAConfig()) }
    expectError("`default`", "already") { try model.loadAdapter(adapter.path) }
    expectError("`nobody`") { try model.savePretrained("/nowhere", adapters: ["nobody"]) }
    try unchanged()
    for name in [
      "", ".", "..", "../up", "/etc/passwd", "a/b", "a\\b", "a.b", "a\0b", "a\nb", "\u{7}",
      String(repeating: "x", count: 300),
    ] {
      expectError("name of an adapter") { try model.addAdapter(name, LoRAConfig()) }
      expectError("name of an adapter") { try model.loadAdapter(adapter.path, name: name) }
    }
    try unchanged()
    try model.addAdapter("中文 name-2_x", LoRAConfig())
    #expect(model.adapterNames == ["default", "中文 name-2_x"])
    try model.deleteAdapter("中文 name-2_x")
    try unchanged()
  }

  @Test("a merged adapter can be neither deleted nor switched from nor joined")
  func mergedState() throws {
    let adapter = try AdapterFixture("attention")
    let model = try adapter.load()
    try model.addAdapter("other", LoRAConfig())
    try model.mergeAdapter()
    expectError("`default`", "unmerge") { try model.setAdapter("other") }
    expectError("`default`", "unmerge") { try model.deleteAdapter("default") }
    expectError("`default`", "unmerge") { try model.addAdapter("third", LoRAConfig()) }
    expectError("`default`", "merged") { try model.mergeAdapter(["other"]) }
    #expect(try adapter.error(model.base, "logits") < 2 * tolerance)
    try model.unmergeAdapter()
    try model.deleteAdapter("default")
    #expect(model.activeAdapters.isEmpty && model.adapterNames == ["other"])
    #expect(try adapter.error(model.base, "base_logits") < tolerance)
  }
}
