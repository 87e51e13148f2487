import Formats
import Foundation
import JSON
import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

// The suite that every family goes through: each fixture is a tiny random model of one configuration twist with what
// transformers computes from it in fp32.

@Suite struct FamilyTests {
  /// fp32 sums in another order than transformers', relative to the largest logit.
  private let tolerance = 1e-5

  @Test("every family of the catalogue has fixtures and printed trees")
  func catalogueIsCovered() throws {
    let types = try modelFixtures.map { try ModelConfiguration(directory: fixture($0)).modelType }
    let trees = try treeNames.map { try treeConfiguration($0).modelType }
    for family in ModelFamily.catalogue {
      #expect(types.contains(family.modelType), "no fixture of \(family.modelType)")
      #expect(trees.contains(family.modelType), "no tree of \(family.modelType)")
    }
    #expect(modelFixtures.count >= 24)
  }

  @Test("logits of each sequence are those of transformers", arguments: modelFixtures)
  func logits(_ name: String) throws {
    let (model, expected) = (try load(name), try Expectation(name))
    for index in 0..<expected.count {
      let logits = try model.logits(ModelInput([expected.tokens(index)], device: testDevice))
      #expect(logits.dtype == .float32)
      #expect(try relativeError(logits, expected.logits(index)) < tolerance, "sequence \(index)")
    }
  }

  @Test("sequences in one ragged batch do not see each other", arguments: modelFixtures)
  func raggedBatch(_ name: String) throws {
    let (model, expected) = (try load(name), try Expectation(name))
    let sequences = try expected.sequences
    let input = try ModelInput(sequences, device: testDevice)
    let logits = try model.logits(input)
    let last = try model.nextTokenLogits(input)
    for (index, tokens) in input.layout.sequences.enumerated() {
      #expect(
        try relativeError(logits.slice(tokens), expected.logits(index)) < tolerance, "sequence \(index)")
      let final = try expected.logits(index).slice(tokens.count - 1..<tokens.count)
      #expect(try relativeError(last.slice(index..<index + 1), final) < tolerance)
    }
  }

  @Test("losses and gradients are those of transformers", arguments: modelFixtures)
  func lossesAndGradients(_ name: String) throws {
    let (model, expected) = (try load(name), try Expectation(name))
    for parameter in model.parameters() { try parameter.setTrainable(true) }
    for checkpointing in [false, true] {
      model.usesGradientCheckpointing = checkpointing
      var supervised = 0
      var sums: [Tensor] = []
      for index in 0..<expected.count {
        let tokens = try expected.tokens(index)
        let supervision = Supervision(
          labels: try expected.labels(index), offsets: [0, tokens.count], ignoreIndex: -100)
        let hidden = try model.hiddenStates(ModelInput([tokens], device: testDevice))
        let sum = try causalLossSum(hidden: hidden, supervision: supervision, head: model.outputEmbedding)
        #expect(
          try relativeError(sum / Double(supervision.count), expected.file.tensor("loss.\(index)"))
            < tolerance)
        supervised += supervision.count
        sums.append(sum)
      }
      try expectLossAndGradients(
        model, try sums.dropFirst().reduce(sums[0]) { try $0 + $1 } / Double(supervised), expected)

      // The same in one ragged batch.
      let sequences = try expected.sequences
      let input = try ModelInput(sequences, device: testDevice)
      let labels = try (0..<expected.count).flatMap { try expected.labels($0) }
      let supervision = Supervision(labels: labels, offsets: input.layout.offsets, ignoreIndex: -100)
      #expect(supervision.count == supervised)
      let sum = try causalLossSum(
        hidden: model.hiddenStates(input), supervision: supervision, head: model.outputEmbedding)
      try expectLossAndGradients(model, sum / Double(supervised), expected)
    }
  }

  private func expectLossAndGradients(
    _ model: any CausalLanguageModel, _ loss: Tensor, _ expected: Expectation,
    location: SourceLocation = #_sourceLocation
  ) throws {
    #expect(try relativeError(loss, expected.file.tensor("loss")) < tolerance, sourceLocation: location)
    try loss.backward()
    let parameters = Dictionary(
      model.namedParameters().map { ($0.path, $0.parameter) }, uniquingKeysWith: { first, _ in first })
    for name in expected.file.tensorNames where name.hasPrefix("gradient.") {
      let parameter = try #require(parameters[String(name.dropFirst("gradient.".count))])
      guard let gradient = parameter.value.gradient else {
        Issue.record("\(name) is missing", sourceLocation: location)
        continue
      }
      #expect(
        try relativeError(gradient, expected.file.tensor(name)) < 5 * tolerance, "\(name)",
        sourceLocation: location)
    }
    for parameter in parameters.values { try parameter.value.setGradient(nil) }
  }

  @Test("cached generation continues as transformers does", arguments: modelFixtures)
  func generation(_ name: String) throws {
    let (model, expected) = (try load(name), try Expectation(name))
    guard expected.file.contains("generated.0") else { return }
    let sequences = try expected.sequences
    let wanted = try (0..<expected.count).map { try expected.file.tensor("generated.\($0)").integers() }

    // All sequences at once: they have their own lengths in one cache.
    let cache = model.makeCache(sequenceCount: sequences.count)
    var input = try ModelInput(sequences, cache: cache, device: testDevice)
    var generated = sequences.map { _ in [Int]() }
    for _ in 0..<wanted[0].count {
      let next = try withoutGradient { try model.nextTokenLogits(input).argmax(-1).integers() }
      for (index, token) in next.enumerated() { generated[index].append(token) }
      input = try ModelInput(next.map { [Int32($0)] }, cache: cache, device: testDevice)
    }
    #expect(generated == wanted)
    #expect(cache.lengths == zip(sequences, wanted).map { $0.count + $1.count - 1 })
  }

  @Test("reading in pieces through a cache gives the logits of reading at once", arguments: modelFixtures)
  func cachedInPieces(_ name: String) throws {
    // Dynamic scaling depends on how much has been read; transformers differs between the two as well.
    guard !name.contains("dynamic") else { return }
    let (model, expected) = (try load(name), try Expectation(name))
    let sequences = try expected.sequences
    let cache = model.makeCache(sequenceCount: sequences.count)
    var done = sequences.map { _ in 0 }
    for share in [0.3, 0.6, 1.0] {
      let ends = sequences.map { Swift.max(1, Int((Double($0.count) * share).rounded())) }
      let pieces = zip(sequences, zip(done, ends)).map { Array($0[$1.0..<$1.1]) }
      let input = try ModelInput(pieces, cache: cache, device: testDevice)
      let logits = try model.logits(input)
      for (index, tokens) in input.layout.sequences.enumerated() where !tokens.isEmpty {
        let wanted = try expected.logits(index).slice(done[index]..<ends[index])
        #expect(try relativeError(logits.slice(tokens), wanted) < tolerance, "sequence \(index)")
      }
      done = ends
    }
    // What is left of a batch goes on from where it was.
    try cache.keep([2, 0])
    #expect(cache.lengths == [sequences[2].count, sequences[0].count])
    let wanted = try model.nextTokenLogits(
      ModelInput([sequences[2] + [7], sequences[0] + [9]], device: testDevice))
    let found = try model.nextTokenLogits(ModelInput([[7], [9]], cache: cache, device: testDevice))
    #expect(try relativeError(found, wanted) < tolerance)
  }

  @Test("bf16 logits differ by rounding only", arguments: ["llama-grouped-query", "qwen2-sliding"])
  func bfloat16(_ name: String) throws {
    let (model, expected) = (try load(name, dtype: .bfloat16), try Expectation(name))
    let input = try ModelInput(expected.sequences, device: testDevice)
    let logits = try model.logits(input)
    #expect(logits.dtype == .bfloat16)
    for (index, tokens) in input.layout.sequences.enumerated() {
      // 8 bits of mantissa, a few layers deep, behind attention made sharp.
      let difference = try logits.slice(tokens).to(.float32, device: .cpu) - expected.logits(index)
      #expect(try difference.norm().item() < 0.05 * expected.logits(index).norm().item())
    }
  }

  @Test("the type asked for, else the one of the file, is what the model computes in")
  func types() throws {
    #expect(try load("llama-bfloat16", dtype: nil).dtype == .bfloat16)
    #expect(try load("llama-bfloat16").dtype == .float32)
    #expect(try load("llama-grouped-query", dtype: nil).dtype == .float32)
    let model = try load("llama-multi-head-tied")
    #expect(model.tiesEmbeddings)
    #expect(try !load("llama-grouped-query").tiesEmbeddings)
    #expect(model.parameters().allSatisfy { $0.isLoaded && !$0.isTrainable })
  }

  // MARK: Trees

  private var treeNames: [String] {
    get throws {
      try FileManager.default.contentsOfDirectory(atPath: fixture("trees").path)
        .filter { $0.hasSuffix(".txt") }.map { String($0.dropLast(4)) }.sorted()
    }
  }

  private func treeConfiguration(_ name: String) throws -> ModelConfiguration {
    let file = fixture("trees/\(name).config.json")
    return ModelConfiguration(json: try JSONValue(parsing: Data(contentsOf: file)), source: file.path)
  }

  @Test("models print and count as in PyTorch")
  func trees() throws {
    let counts = try JSONValue(parsing: Data(contentsOf: fixture("trees/parameters.json")))
    #expect(try treeNames.count >= 6)
    for name in try treeNames {
      let configuration = try treeConfiguration(name)
      let family = try ModelFamily.of(configuration)
      let model = try family.make(configuration, family, .causalLM)
      let wanted = try String(contentsOf: fixture("trees/\(name).txt"), encoding: .utf8)
      #expect(model.description + "\n" == wanted, "\(name)")
      #expect(model.parameterCount == counts[name]?.intValue, "\(name)")
    }
  }
}
