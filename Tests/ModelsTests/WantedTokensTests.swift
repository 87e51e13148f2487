import Models
import NeuralNetworks
import TestSupport
import Testing
import Torch

/// The states of some tokens alone, of which the last layer computes no others.
@Suite struct WantedTokensTests {
  /// Sums of other lengths in another order, relative to the largest number.
  private let tolerance = 1e-5

  enum Before: CaseIterable {
    case nothing, sharedPrefix, embeddings, keysAndValues
  }

  @Test(
    "states of some tokens are those among all, gradients included", arguments: modelFixtures, Before.allCases
  )
  func states(_ name: String, before: Before) throws {
    let model = try load(name, dtype: .float32)
    for parameter in model.parameters() { try parameter.setTrainable(true) }
    guard before != .sharedPrefix || model.backbone.sharesPrefixes else { return }
    let prefix: [Int32] = [11, 7, 23, 5]
    let own: [[Int32]] = [[3, 4, 5, 6, 7], [8], [9, 10, 11, 12, 13, 14]]
    var input = try ModelInput(own.map { prefix + $0 }, device: testDevice)
    if before == .sharedPrefix { input.sharedPrefix = prefix.count }
    try RandomState.seed(5)
    let shape = model.attentionShape
    func vectors(_ shape: [Int]) throws -> Tensor {
      let vectors = try Tensor.normal(shape, device: testDevice)
      try vectors.setRequiresGradient(true)
      return vectors
    }
    let heads = [2, shape.keyValueHeadCount, shape.headDimension]
    var virtual: [Tensor] = []
    switch before {
    case .nothing, .sharedPrefix: break
    case .embeddings: virtual = [try vectors([2, model.hiddenSize])]
    case .keysAndValues: virtual = try (0..<2 * model.layerCount).map { _ in try vectors(heads) }
    }
    if !virtual.isEmpty {
      model.virtualTokens = VirtualTokens(count: 2) { [virtual] in
        before == .embeddings
          ? .embeddings(virtual[0])
          : .keysAndValues(stride(from: 0, to: virtual.count, by: 2).map { (virtual[$0], virtual[$0 + 1]) })
      }
    }

    let wanted = try Tensor([Int64(0), 5, 8, 12, 22], device: testDevice)
    let weights = try Tensor.normal([5, model.hiddenSize], device: testDevice)
    let leaves = model.parameters().map(\.value) + virtual
    func run(_ states: () throws -> Tensor) throws -> (states: Tensor, gradients: [Tensor]) {
      for leaf in leaves { try leaf.setGradient(nil) }
      let result = try states()
      try (result * weights).sum().backward()
      return (try result.detached(), leaves.compactMap(\.gradient))
    }
    for checkpointing in [false, true] {
      model.usesGradientCheckpointing = checkpointing
      let all = try run { try model.hiddenStates(input).selecting(wanted) }
      let some = try run { try model.hiddenStates(input, tokens: wanted) }
      #expect(some.states.shape == [5, model.hiddenSize])
      #expect(try relativeError(some.states, all.states) < tolerance)
      #expect(some.gradients.count == all.gradients.count && all.gradients.count > virtual.count)
      for (one, other) in zip(some.gradients, all.gradients) {
        #expect(try relativeError(one, other) < tolerance)
      }
    }
  }
}
