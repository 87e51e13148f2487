import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

/// What all sequences begin with, computed once.
@Suite struct SharedPrefixTests {
  /// Sums over the sequences in another order, relative to the largest number.
  private let tolerance = 1e-5

  private static let prefix: [Int32] = [11, 7, 23, 5, 60, 2, 9, 31, 14]

  /// Sequences with a common beginning, one of them with a single token of its own.
  private func input(shared: Bool) throws -> ModelInput {
    let own: [[Int32]] = [[3, 4, 5, 6, 7], [8], [9, 10, 11, 12, 13, 14, 15, 16], [20, 21]]
    var input = try ModelInput(own.map { Self.prefix + $0 }, device: testDevice)
    if shared { input.sharedPrefix = Self.prefix.count }
    return input
  }

  @Test("sharing a prefix changes neither logits nor gradients", arguments: modelFixtures, [false, true])
  func sharing(_ name: String, checkpointing: Bool) throws {
    let model = try load(name, dtype: .float32)
    model.usesGradientCheckpointing = checkpointing
    for parameter in model.parameters() { try parameter.setTrainable(true) }
    try RandomState.seed(3)
    let weights = try Tensor.normal([52, model.vocabularySize], device: testDevice)
    func run(shared: Bool) throws -> (logits: Tensor, gradients: [Tensor]) {
      for parameter in model.parameters() { try parameter.value.setGradient(nil) }
      let logits = try model.logits(input(shared: shared))
      try (logits * weights).sum().backward()
      return (logits, model.parameters().compactMap(\.value.gradient))
    }
    let (plain, shared) = (try run(shared: false), try run(shared: true))
    #expect(try relativeError(shared.logits, plain.logits) < tolerance)
    #expect(plain.gradients.count == shared.gradients.count && plain.gradients.count > 0)
    for (one, other) in zip(shared.gradients, plain.gradients) {
      #expect(try relativeError(one, other) < tolerance)
    }
  }

  @Test("a prefix is not shared where angles depend on the length of the sequence")
  func dynamicRotation() throws {
    #expect(try load("llama-rope-dynamic").backbone.sharesPrefixes == false)
    #expect(try load("llama-grouped-query").backbone.sharesPrefixes)
  }

  @Test("rows of a prefix are computed once")
  func rows() throws {
    let model = try load("llama-grouped-query")
    let rows = try [false, true].map { shared in
      try model.hiddenStates(input(shared: shared)).shape[0]
    }
    #expect(rows == [52, 52])  // the result has them all
    let offsets = try input(shared: true).layout.offsetsTensor
    let whole = try Tensor((0..<52).map(Float.init))
    let once = try whole.droppingRepeatedPrefix(9, offsets: offsets)
    #expect(once.shape == [9 + 16])
    #expect(try Array(once.floats()[8...14]) == [8, 9, 10, 11, 12, 13, 23])
    #expect(try Array(once.repeatingPrefix(9, offsets: offsets).floats()[12...16]) == [12, 13, 0, 1, 2])
  }

  @Test("rows that do not fit the offsets are an error")
  func wrongRows() throws {
    let offsets = try Tensor([Int32(0), 4, 9])
    expectError("7 rows are needed") { _ = try Tensor.zeros([9, 2]).repeatingPrefix(2, offsets: offsets) }
    expectError("9 rows are needed") {
      _ = try Tensor.zeros([7, 2]).droppingRepeatedPrefix(2, offsets: offsets)
    }
    expectError("a prefix of 5") { _ = try Tensor.zeros([9, 2]).repeatingPrefix(5, offsets: offsets) }
  }
}
